"""How the operator's tool reaches an account."""

from urllib.parse import parse_qs, urlsplit

import pytest

from bird_webhooks.stack import deployed


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
