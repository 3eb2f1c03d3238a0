"""Make a collection of the saved queries, and a dashboard of them, in a Metabase. Not run against one yet.

    METABASE_API_KEY=… python3 create.py https://metabase.example.com DATABASE_ID

The key (Admin, Settings, Authentication, API keys) must be allowed to write into collections. DATABASE_ID is the
number in the address of the database in Admin, Databases. Each run makes a new collection: archive the one before.
Needs Metabase 49 or newer.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

QUESTIONS = Path(__file__).with_name("questions.json")
NAME = "Deliverability"
COLUMNS, HEIGHT = 24, 8  # of Metabase's grid; of a card


def main() -> None:
    address, database = sys.argv[1].rstrip("/"), int(sys.argv[2])
    key = os.environ["METABASE_API_KEY"]

    def send(method: str, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "x-api-key": key}
        request = urllib.request.Request(f"{address}{path}", json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    print(f"{address}/dashboard/{create(send, database, json.loads(QUESTIONS.read_text()))}")


def create(send: Any, database: int, questions: list[dict[str, Any]]) -> int:
    """The number of the dashboard. `send(method, path, body)` is an answer of Metabase's API."""
    collection = send("POST", "/api/collection", {"name": NAME})["id"]
    cards = [
        send(
            "POST",
            "/api/card",
            {
                "name": question["name"],
                "description": question["description"],
                "display": question["display"],
                "collection_id": collection,
                "visualization_settings": {"graph.dimensions": ["day"]} if question["display"] == "line" else {},
                "dataset_query": {"type": "native", "database": database, "native": {"query": question["sql"]}},
            },
        )["id"]
        for question in questions
    ]
    dashboard: int = send("POST", "/api/dashboard", {"name": NAME, "collection_id": collection})["id"]
    places = [
        {"id": -number, "card_id": card, "row": number * HEIGHT, "col": 0, "size_x": COLUMNS, "size_y": HEIGHT}
        for number, card in enumerate(cards, start=1)
    ]
    send("PUT", f"/api/dashboard/{dashboard}", {"dashcards": places})
    return dashboard


if __name__ == "__main__":
    main()
