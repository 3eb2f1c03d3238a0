"""How the operator's program reaches an account."""

from urllib.parse import parse_qs, urlsplit

import pytest

from bird_webhooks.errors import OperateError
from bird_webhooks.operate.close import BEGINS_FOR_SECONDS
from bird_webhooks.stack import deployed
from process.close_day import RESERVED_SECONDS


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "lake-bucket.s3.eu-west-1.amazonaws.com"),
        ("us-east-1", "lake-bucket.s3.amazonaws.com"),
        ("eu-central-1", "lake-bucket.s3.eu-central-1.amazonaws.com"),
    ],
)
def test_a_link_is_signed_as_s3_takes_it_and_goes_to_the_buckets_own_region(region, host):
    """S3 refuses SigV2 for buckets made after 24 June 2020; and a signature is for one host, without redirects."""
    s3 = deployed("bird-webhooks", region, None).s3
    where = {"Bucket": "lake-bucket", "Key": "reports/latest.html"}
    link = urlsplit(s3.generate_presigned_url("get_object", Params=where, ExpiresIn=3600))
    assert parse_qs(link.query)["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert link.hostname == host


def test_the_region_of_the_environment_is_that_of_the_stack(monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert deployed("bird-webhooks", None, None).s3.meta.region_name == "eu-west-3"
    assert deployed("bird-webhooks", "eu-north-1", None).s3.meta.region_name == "eu-north-1"
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(OperateError, match="which region"):
        _ = deployed("bird-webhooks", None, None).s3


def test_a_long_run_of_a_function_is_not_cut_short_nor_asked_for_twice():
    """boto3 waits a minute for an answer, and repeats a request that got none."""
    config = deployed("bird-webhooks", "eu-west-1", None).client("lambda").meta.config
    assert config.read_timeout >= BEGINS_FOR_SECONDS + RESERVED_SECONDS
    assert config.retries["total_max_attempts"] == 1
