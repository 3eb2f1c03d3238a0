"""A function in a process of its own, which a test can kill: one JSON event a line in, one JSON answer a line out."""

import importlib
import json
import sys

answers, sys.stdout = sys.stdout, sys.stderr
handler = importlib.import_module(f"{sys.argv[1]}.app").lambda_handler
for line in sys.stdin:
    print(json.dumps(handler(json.loads(line), None)), file=answers, flush=True)
