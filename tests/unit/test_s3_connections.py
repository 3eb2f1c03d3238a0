"""No function uses a connection again that S3 may have closed: S3 keeps an idle one for 5 s at least."""

from datetime import timedelta

import pytest

import ingest.raw_store
import load_postgres.lake
import process.lake
import publish_events.lake

STORES = [
    pytest.param(ingest.raw_store, lambda: ingest.raw_store.open_store("bucket", "raw", allow_http=True), id="ingest"),
    pytest.param(process.lake, lambda: process.lake._store.__wrapped__("bucket", True), id="process"),
    pytest.param(load_postgres.lake, lambda: load_postgres.lake._store.__wrapped__("bucket", True), id="load_postgres"),
    pytest.param(publish_events.lake, lambda: publish_events.lake._store.__wrapped__("bucket", True), id="publish"),
]


@pytest.mark.parametrize(("module", "open_store"), STORES)
def test_an_idle_connection_is_given_up_before_s3_does(module, open_store, monkeypatch):
    options = []
    monkeypatch.setattr(module, "S3Store", lambda bucket, **given: options.append(given["client_options"]))
    open_store()
    assert options[0]["pool_idle_timeout"] < timedelta(seconds=5)
