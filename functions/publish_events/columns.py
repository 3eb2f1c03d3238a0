"""The types of the columns in a file of rows that are not plain text; and the types of events.

A Parquet file says which columns are numbers, flags and times, but not which text is JSON; a CSV file says nothing.
Written by `make generate` from functions/process, because no function imports another.
"""

from enum import StrEnum


class Kind(StrEnum):
    BIGINT = "BIGINT"
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP"
    JSON = "JSON"


KINDS = {
    "timestamp": Kind.TIMESTAMP,
    "received_at": Kind.TIMESTAMP,
    "template_version": Kind.BIGINT,
    "ab_test_version": Kind.BIGINT,
    "ab_test": Kind.JSON,
    "rcpt_meta": Kind.JSON,
    "rcpt_tags": Kind.JSON,
    "rcpt_subs": Kind.JSON,
    "msg_size": Kind.BIGINT,
    "injection_time": Kind.TIMESTAMP,
    "scheduled_time": Kind.TIMESTAMP,
    "queue_time": Kind.BIGINT,
    "num_retries": Kind.BIGINT,
    "outbound_tls": Kind.BIGINT,
    "transactional": Kind.BOOLEAN,
    "open_tracking": Kind.BOOLEAN,
    "click_tracking": Kind.BOOLEAN,
    "initial_pixel": Kind.BOOLEAN,
    "amp_enabled": Kind.BOOLEAN,
    "bounce_class": Kind.BIGINT,
    "user_agent_parsed_is_mobile": Kind.BOOLEAN,
    "user_agent_parsed_is_proxy": Kind.BOOLEAN,
    "user_agent_parsed_is_prefetched": Kind.BOOLEAN,
    "geo_ip_latitude": Kind.DOUBLE,
    "geo_ip_longitude": Kind.DOUBLE,
    "geo_ip_zip": Kind.BIGINT,
    "sms_remoteids": Kind.JSON,
    "sms_segments": Kind.BIGINT,
    "dr_latency": Kind.DOUBLE,
    "expiration_timestamp": Kind.TIMESTAMP,
    "number_succeeded": Kind.BIGINT,
    "number_duplicates": Kind.BIGINT,
    "number_failed": Kind.BIGINT,
    "retryable": Kind.BOOLEAN,
    "extra": Kind.JSON,
}

# Types of events that Bird documents.
BIRD_TYPES = frozenset(
    {
        "ab_test_cancelled",
        "ab_test_completed",
        "amp_click",
        "amp_initial_open",
        "amp_open",
        "bounce",
        "click",
        "delay",
        "delivery",
        "error",
        "generation_failure",
        "generation_rejection",
        "initial_open",
        "injection",
        "link_unsubscribe",
        "list_unsubscribe",
        "open",
        "out_of_band",
        "policy_rejection",
        "relay_delivery",
        "relay_injection",
        "relay_permfail",
        "relay_rejection",
        "relay_tempfail",
        "sms_status",
        "spam_complaint",
        "success",
    }
)
