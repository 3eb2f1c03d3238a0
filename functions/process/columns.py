"""The columns of the table `events`, in order: the one list behind Parquet, CSV, the Glue table and PostgreSQL.

To add a field that Bird announces, add a line after the last one and run `make generate`, which writes every copy;
`make check` says when one differs. A test holds that no column moves or changes (CONTRIBUTING.md, "Add a column").

Source: Bird's event reference, and its samples of all 27 types at `GET /api/v1/webhooks/events/samples`.
"""

from enum import StrEnum
from typing import NamedTuple


class ColumnType(StrEnum):
    """What a column holds; each writer maps it to a type of its own."""

    TEXT = "TEXT"
    BIGINT = "BIGINT"  # signed, 64 bits
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP"  # UTC, milliseconds
    JSON = "JSON"  # text, byte for byte as it came


class Column(NamedTuple):
    """One column; `field` is Bird's name for the value (`object.member` for a flattened one), None for one of ours."""

    name: str
    type: ColumnType
    description: str
    field: str | None


TEXT, BIGINT, DOUBLE, BOOLEAN, TIMESTAMP, JSON = ColumnType


def _bird(name: str, type: ColumnType, description: str, *, field: str | None = None) -> Column:  # noqa: A002
    return Column(name, type, description, field or name)


def _ours(name: str, type: ColumnType, description: str) -> Column:  # noqa: A002
    return Column(name, type, description, None)


COLUMNS: tuple[Column, ...] = (
    _ours("event_class", TEXT, "Class of the event: the key inside `msys`, such as message_event or track_event"),
    _bird("type", TEXT, "Type of the event, such as delivery, bounce or click"),
    _bird("timestamp", TIMESTAMP, "When the event happened"),
    _bird("event_id", TEXT, "Bird's id of the event; sms_status has none"),
    _ours(
        "event_key",
        TEXT,
        "event_id, or a SHA-256 of the event where Bird gives none; unique with customer_id, event_class and type",
    ),
    _ours("batch_id", TEXT, "Webhook batch that brought the event (the header's id)"),
    _ours("received_at", TIMESTAMP, "When the batch was stored"),
    _bird("customer_id", TEXT, "Account number at Bird; part of an event's identity"),
    _bird("subaccount_id", TEXT, "Subaccount; absent for the primary account"),
    _bird("message_id", TEXT, "Bird's id of the message"),
    _bird("transmission_id", TEXT, "Transmission that the message came from"),
    _bird("campaign_id", TEXT, "Campaign name set by the sender"),
    _bird("template_id", TEXT, "Name of the template"),
    _bird("template_version", BIGINT, "Version of the template"),
    _bird("ab_test_id", TEXT, "A/B test that the message belonged to"),
    _bird("ab_test_version", BIGINT, "Version of the A/B test"),
    _bird("ab_test", JSON, "Settings and result of an A/B test"),
    _bird("rcpt_to", TEXT, "Envelope recipient, lower-cased"),
    _bird("raw_rcpt_to", TEXT, "Envelope recipient exactly as used"),
    _bird("rcpt_hash", TEXT, "Hashed recipient"),
    _bird("rcpt_type", TEXT, "cc, bcc or archive; absent for To"),
    _bird("recipient_domain", TEXT, "Domain of the recipient"),
    _bird("routing_domain", TEXT, "Domain that the message was routed to"),
    _bird("mailbox_provider", TEXT, "Mailbox provider of the recipient"),
    _bird("mailbox_provider_region", TEXT, "Region or kind of the mailbox provider"),
    _bird("rcpt_meta", JSON, "Sender's metadata, free form"),
    _bird("rcpt_tags", JSON, "Sender's tags"),
    _bird("rcpt_subs", JSON, "Substitution data used for the template"),
    _bird("friendly_from", TEXT, "Address in the visible From header"),
    _bird("msg_from", TEXT, "Envelope sender"),
    _bird("mailfrom", TEXT, "Envelope sender of the original mail, on unsubscribes"),
    _bird("subject", TEXT, "Subject header"),
    _bird("msg_size", BIGINT, "Message size in bytes"),
    _bird("injection_time", TIMESTAMP, "When Bird accepted the message"),
    _bird("scheduled_time", TIMESTAMP, "When the message was scheduled to be sent"),
    _bird("queue_time", BIGINT, "Milliseconds between injection and delivery"),
    _bird("num_retries", BIGINT, "Failed attempts before this one"),
    _bird("recv_method", TEXT, "Protocol by which the message came in: esmtp, rest"),
    _bird("delv_method", TEXT, "Protocol by which the message was delivered: esmtp, smpp, gcm, apn"),
    _bird("ip_pool", TEXT, "Sending IP pool"),
    _bird("sending_ip", TEXT, "IP address that the message left from"),
    _bird("ip_address", TEXT, "Host delivered to; on engagement events the client's address"),
    _bird("remote_addr", TEXT, "Host that Bird received the message from"),
    _bird("outbound_tls", BIGINT, "1 TLS used, 0 not offered, -1 negotiation failed"),
    _bird("transactional", BOOLEAN, "Marked as transactional"),
    _bird("open_tracking", BOOLEAN, "Open tracking was on"),
    _bird("click_tracking", BOOLEAN, "Click tracking was on"),
    _bird("initial_pixel", BOOLEAN, "The message had the top-of-message open pixel"),
    _bird("amp_enabled", BOOLEAN, "The message had an AMP part"),
    _bird("bounce_class", BIGINT, "Bounce classification code"),
    _bird("error_code", TEXT, "Code that the remote side gave for the failure"),
    _bird("reason", TEXT, "Remote response with its variable parts replaced by placeholders"),
    _bird("raw_reason", TEXT, "Remote response, unmodified"),
    _bird("fbtype", TEXT, "Feedback type of the complaint, RFC 5965"),
    _bird("report_by", TEXT, "Who reported the spam"),
    _bird("report_to", TEXT, "Where the report was sent"),
    _bird("target_link_name", TEXT, "Name of the link followed"),
    _bird("target_link_url", TEXT, "Address of the link followed"),
    _bird("user_agent", TEXT, "User-Agent header of the client"),
    _bird("user_agent_parsed_agent_family", TEXT, "Mail client or browser", field="user_agent_parsed.agent_family"),
    _bird("user_agent_parsed_device_brand", TEXT, "Brand of the device", field="user_agent_parsed.device_brand"),
    _bird("user_agent_parsed_device_family", TEXT, "Family of the device", field="user_agent_parsed.device_family"),
    _bird("user_agent_parsed_os_family", TEXT, "Operating system of the client", field="user_agent_parsed.os_family"),
    _bird("user_agent_parsed_os_version", TEXT, "Operating system's version", field="user_agent_parsed.os_version"),
    _bird("user_agent_parsed_is_mobile", BOOLEAN, "The client is a mobile device", field="user_agent_parsed.is_mobile"),
    _bird("user_agent_parsed_is_proxy", BOOLEAN, "An image proxy fetched it", field="user_agent_parsed.is_proxy"),
    _bird("user_agent_parsed_is_prefetched", BOOLEAN, "A machine fetched it", field="user_agent_parsed.is_prefetched"),
    _bird("geo_ip_country", TEXT, "Country of the client's address", field="geo_ip.country"),
    _bird("geo_ip_region", TEXT, "Region of the client's address", field="geo_ip.region"),
    _bird("geo_ip_city", TEXT, "City of the client's address", field="geo_ip.city"),
    _bird("geo_ip_latitude", DOUBLE, "Latitude of the client's address, in degrees", field="geo_ip.latitude"),
    _bird("geo_ip_longitude", DOUBLE, "Longitude of the client's address, in degrees", field="geo_ip.longitude"),
    _bird("geo_ip_zip", BIGINT, "Postal code as a number; geo_ip_postal_code has its zeros", field="geo_ip.zip"),
    _bird("geo_ip_postal_code", TEXT, "Postal code of the client's address", field="geo_ip.postal_code"),
    _bird("relay_id", TEXT, "Relay webhook concerned"),
    _bird("origination", TEXT, "Origin of a relay event"),
    _bird("device_token", TEXT, "Push target, when delv_method is gcm or apn"),
    _bird("sms_coding", TEXT, "Character coding of the SMS"),
    _bird("sms_dst", TEXT, "SMS destination number"),
    _bird("sms_dst_npi", TEXT, "Numbering plan of the destination"),
    _bird("sms_dst_ton", TEXT, "Number type of the destination"),
    _bird("sms_src", TEXT, "SMS source number"),
    _bird("sms_src_npi", TEXT, "Numbering plan of the source"),
    _bird("sms_src_ton", TEXT, "Number type of the source"),
    _bird("sms_remoteids", JSON, "Message ids given by the SMS centre"),
    _bird("sms_segments", BIGINT, "SMS segment number"),
    _bird("sms_text", TEXT, "SMS body"),
    _bird("stat_type", TEXT, "Kind of SMS status"),
    _bird("stat_state", TEXT, "Value of the SMS status"),
    _bird("dr_latency", DOUBLE, "SMS delivery report's latency in seconds"),
    _bird("ingest_batch_id", TEXT, "Ingest API batch, not the webhook's; Bird's field batch_id", field="batch_id"),
    _bird("expiration_timestamp", TIMESTAMP, "When the ingest batch stops being retrievable"),
    _bird("number_succeeded", BIGINT, "Ingested events that succeeded"),
    _bird("number_duplicates", BIGINT, "Ingested events seen before"),
    _bird("number_failed", BIGINT, "Ingested events that failed"),
    _bird("error_type", TEXT, "Category of ingest error"),
    _bird("retryable", BOOLEAN, "The ingest batch may be sent again"),
    _bird("href", TEXT, "Link to the failed ingest batch"),
    _ours("extra", JSON, "Fields without a column, or whose value did not fit theirs, as Bird sent them"),
    _bird("list_id", TEXT, "List that the recipient unsubscribed from, if the event names one"),
)
