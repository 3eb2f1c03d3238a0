"""The types of the columns in a file of rows that are not plain text; and the types of events. Pure.

A Parquet file says which columns are numbers, flags and times, but not which text is JSON, and CSV says nothing. A test
compares this list with the columns of process, whose file of rows is the contract.
"""

from enum import StrEnum


class Kind(StrEnum):
    BIGINT = "BIGINT"
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP"
    JSON = "JSON"


_NAMES = {
    Kind.BIGINT: """template_version ab_test_version msg_size queue_time num_retries outbound_tls bounce_class
        geo_ip_zip sms_segments number_succeeded number_duplicates number_failed""",
    Kind.DOUBLE: "geo_ip_latitude geo_ip_longitude dr_latency",
    Kind.BOOLEAN: """transactional open_tracking click_tracking initial_pixel amp_enabled
        user_agent_parsed_is_mobile user_agent_parsed_is_proxy user_agent_parsed_is_prefetched retryable""",
    Kind.TIMESTAMP: "timestamp received_at injection_time scheduled_time expiration_timestamp",
    Kind.JSON: "ab_test rcpt_meta rcpt_tags rcpt_subs sms_remoteids extra",
}
KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}

# Types of events that Bird documents; a test compares them with those in process.
_BIRD_TYPES = """ab_test_cancelled ab_test_completed amp_click amp_initial_open amp_open bounce click delay delivery
    error generation_failure generation_rejection initial_open injection link_unsubscribe list_unsubscribe open
    out_of_band policy_rejection relay_delivery relay_injection relay_permfail relay_rejection relay_tempfail sms_status
    spam_complaint success"""
BIRD_TYPES = frozenset(_BIRD_TYPES.split())
