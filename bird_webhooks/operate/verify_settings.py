"""Settings that AWS accepts at deployment and refuses in use, or that were changed by hand since.

Each check gives the words for its line, or raises a Finding.
"""

import base64
import json
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from bird_webhooks.arguments import time_zone
from bird_webhooks.operate import unannounced
from bird_webhooks.operate.findings import Advice, failed, not_tried, warning
from bird_webhooks.operate.quarantine import clean
from bird_webhooks.stack import Stack
from load_postgres.connection import region_of
from report.rules import thresholds

MIN_SCAN_BYTES = 10_000_000  # Athena refuses every query of a workgroup with less
FEW_EXECUTIONS = 50
VIEW_PREFIX, VIEW_SUFFIX = "/* Presto View: ", " */"
VIEW_MEMBERS = {"originalSql", "catalog", "schema", "columns"}
AWS_KEYS = ("alias/aws/",)


def checks(stack: Stack) -> Iterator[tuple[str, Callable[[Stack], str]]]:
    yield from (
        ("setting notifications", notifications),
        ("setting catalogue", catalogue),
        ("setting workgroup", workgroup),
        ("setting Lake Formation", lake_formation),
        ("setting Object Lock", object_lock),
        ("setting encryption", encryption),
        ("setting event sources", event_sources),
        ("setting concurrency", concurrency),
        ("setting report", report),
        ("setting raw batches", raw_batches),
    )


ADVICE = {
    "setting notifications": Advice(
        "S3 does not announce what is stored: batches are safe in the raw bucket and become no rows",
        "put the notifications back as the template has them; then `replay --since` the time of the gap",
        "docs/runbook.md#batches-without-rows",
    ),
    "setting catalogue": Advice(
        "Athena cannot read a table or view as it stands in the Glue catalogue",
        "put it back as the template has it; if it stays, report it with the output of `verify --json`",
        "docs/runbook.md#a-view-or-query-that-fails",
    ),
    "setting workgroup": Advice(
        "Athena refuses the queries of this workgroup",
        "put it back as the template has it; raise AthenaScanLimitMegabytes if the limit is what refuses",
        "docs/runbook.md#a-view-or-query-that-fails",
    ),
    "setting Lake Formation": Advice(
        "Lake Formation decides who reads the tables, beside IAM: roles of the stack and people may be denied",
        "grant SELECT and DESCRIBE on database and tables to ReportRole and to your readers",
        "docs/runbook.md#a-setting-that-aws-refuses-in-use",
    ),
    "setting Object Lock": Advice(
        "Object Lock with a default retention refuses writes without a checksum, and nothing can be erased",
        "take the default retention off the bucket; Bird repeats refused batches for 8 hours",
        "docs/runbook.md#a-setting-that-aws-refuses-in-use",
    ),
    "setting encryption": Advice(
        "A key of yours encrypts what the stack's roles, S3, SNS or CloudWatch must use, and they have no right to it",
        "enable the key; name it in KmsKeyArn or KmsReadKeyArns; put queues and topics back to AWS's own encryption",
        "docs/company-rules.md#a-kms-key",
    ),
    "setting event sources": Advice(
        "Lambda does not read a queue of the stack: what is in it waits, for 14 days at most",
        "enable it: `aws lambda update-event-source-mapping --enabled --uuid ...`",
        "docs/runbook.md#queueagealarm",
    ),
    "setting concurrency": Advice(
        "The account lets few functions run at once: process and the loaders can starve ingest, and Bird hears 502",
        "ask AWS for a higher quota 'Concurrent executions' of Lambda",
        "docs/runbook.md#albrefusedbatchesalarm",
    ),
    "setting report": Advice(
        "CloudFormation cannot judge this value: the daily report and the alerts fail with it, each time",
        "deploy with one as docs/settings.md describes it",
        "docs/runbook.md#reporterrorsalarm",
    ),
    "setting raw batches": Advice(
        "S3 has not announced them (uploaded or copied in parts, no stack was there, or their place was just changed)",
        "`replay --batch` those that are named; give `import` again for what an import has stored",
        "docs/runbook.md#batches-without-rows",
    ),
}


def notifications(stack: Stack) -> str:
    s3 = stack.s3
    raw = s3.get_bucket_notification_configuration(Bucket=stack.output("RawBucketName"))
    queue = _arn_of_queue(stack, stack.output("ProcessQueueUrl"))
    _require_announced(
        [(rule["QueueArn"], rule) for rule in raw.get("QueueConfigurations", [])], queue, f"{stack.raw_prefix}/", "raw"
    )
    lake = s3.get_bucket_notification_configuration(Bucket=stack.output("LakeBucketName"))
    table = stack.client("glue").get_table(DatabaseName=stack.output("GlueDatabaseName"), Name="events")["Table"]
    rows = urlsplit(table["StorageDescriptor"]["Location"]).path.lstrip("/")
    topic = stack.output("RowsTopicArn")
    _require_announced([(rule["TopicArn"], rule) for rule in lake.get("TopicConfigurations", [])], topic, rows, "lake")
    return "both buckets announce what is put into them"


def _require_announced(rules: list[tuple[str, Any]], destination: str, prefix: str, bucket: str) -> None:
    """S3 wants a filter as it writes keys in its events: a space is a plus sign.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
    """
    written = prefix.replace(" ", "+")
    ours = [rule for arn, rule in rules if arn == destination]
    puts = [rule for rule in ours if {"s3:ObjectCreated:Put", "s3:ObjectCreated:*"} & set(rule["Events"])]
    if not puts:
        raise failed(f"the {bucket} bucket announces no new object to the stack")
    filters = [
        {rule["Name"].lower(): rule["Value"] for rule in put.get("Filter", {}).get("Key", {}).get("FilterRules", [])}
        for put in puts
    ]
    if not any(written.startswith(found.get("prefix", "")) and not found.get("suffix") for found in filters):
        shown = ", ".join(dict.fromkeys(repr(found.get("prefix", "")) for found in filters))
        raise failed(f"the {bucket} bucket announces keys that begin with {shown}; they begin with {written!r}")


def catalogue(stack: Stack) -> str:
    """What Trino wants of a table and a view in Glue.

    https://docs.aws.amazon.com/athena/latest/ug/views.html
    """
    glue, database = stack.client("glue"), stack.output("GlueDatabaseName")
    if database != database.lower():
        raise failed("the database's name has capitals, which Glue folds and policies do not")
    tables = [
        table
        for page in glue.get_paginator("get_tables").paginate(DatabaseName=database)
        for table in page["TableList"]
    ]
    wrong = []
    for table in tables:
        if table.get("TableType") == "VIRTUAL_VIEW" and (lacks := _lacks(table, database)):
            wrong.append(f"view {table['Name']} {lacks}")
    if "events" not in {table["Name"] for table in tables}:
        wrong.append("there is no table events")
    if wrong:
        raise failed("; ".join(wrong))
    return f"{len(tables)} tables and views are as Athena takes them"


def _lacks(view: dict[str, Any], database: str) -> str:
    if not isinstance(view.get("PartitionKeys"), list):
        return "has no PartitionKeys"
    if not view.get("StorageDescriptor", {}).get("SerdeInfo", {}).get("SerializationLibrary"):
        return "has no SerdeInfo"
    text = view.get("ViewOriginalText", "")
    try:
        if not text.startswith(VIEW_PREFIX):
            raise ValueError
        definition = json.loads(base64.b64decode(text.removeprefix(VIEW_PREFIX).removesuffix(VIEW_SUFFIX)))
        missing = VIEW_MEMBERS - definition.keys()
    except (ValueError, AttributeError):
        return "has a definition that is not Athena's"
    if missing:
        return f"has a definition without {', '.join(sorted(missing))}"
    return "" if definition["schema"] == database else "names another database"


def workgroup(stack: Stack) -> str:
    answer = stack.client("athena").get_work_group(WorkGroup=stack.output("AthenaWorkGroupName"))["WorkGroup"]
    if answer.get("State", "ENABLED") != "ENABLED":
        raise failed("the workgroup is disabled")
    settings = answer.get("Configuration", {})
    limit = settings.get("BytesScannedCutoffPerQuery")
    if limit is not None and int(limit) < MIN_SCAN_BYTES:
        raise failed(f"a query may scan {int(limit):,} bytes: Athena wants {MIN_SCAN_BYTES:,} at least")
    version = settings.get("EngineVersion", {}).get("EffectiveEngineVersion", "")
    if version and "3" not in version:
        raise failed(f"the engine is {version}: views and queries are written for version 3")
    return "enabled" + (f", a query may scan {int(limit) / 1e9:g} GB" if limit else "")


def lake_formation(stack: Stack) -> str:
    """Where "use only IAM access control" is switched off, new databases have no grant for IAM's principals.

    https://docs.aws.amazon.com/lake-formation/latest/dg/change-settings.html
    """
    glue, name = stack.client("glue"), stack.output("GlueDatabaseName")
    database = glue.get_database(Name=name)["Database"]
    table = glue.get_table(DatabaseName=name, Name="events")["Table"]
    if table.get("IsRegisteredWithLakeFormation"):
        raise warning("the lake's location is registered with Lake Formation")
    if database.get("CreateTableDefaultPermissions") == []:
        raise warning("IAM alone does not give access to new tables of this database")
    return "IAM decides alone"


def object_lock(stack: Stack) -> str:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html"""
    for name in ("RawBucketName", "LakeBucketName"):
        try:
            found = stack.s3.get_object_lock_configuration(Bucket=stack.output(name))["ObjectLockConfiguration"]
        except ClientError as error:
            if error.response["Error"]["Code"] in (
                "ObjectLockConfigurationNotFoundError",
                "ObjectLockConfigurationNotFound",
            ):
                continue
            raise
        if found.get("Rule"):
            raise failed(f"{name.removesuffix('BucketName').lower()} bucket: Object Lock with a default retention")
        if found.get("ObjectLockEnabled") == "Enabled":
            raise warning(
                f"{name.removesuffix('BucketName').lower()} bucket: Object Lock is on, without a default retention"
            )
    return "off"


def encryption(stack: Stack) -> str:
    """Keys that the functions have no right to, or that do not work. A topic or queue under AWS's own key takes nothing
    from other services.

    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    """
    parameters = stack.parameters
    writes = parameters.get("KmsKeyArn", "")
    reads = [arn for arn in (writes, *parameters.get("KmsReadKeyArns", "").split(",")) if arn]
    unsure = []
    for name in ("RawBucketName", "LakeBucketName"):
        bucket = f"{name.removesuffix('BucketName').lower()} bucket"
        key = key_of_bucket(stack, stack.output(name))
        if key and not is_one_of(key, [writes]):
            unsure.append(bucket)
        elif writes and not key:
            raise warning(f"the {bucket} is not encrypted with KmsKeyArn: new objects are under S3's own key")
    for topic in stack.physical_ids("AWS::SNS::Topic"):
        key = stack.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"].get("KmsMasterKeyId")
        if key and key.startswith(AWS_KEYS):
            raise failed(f"a topic is encrypted with {key}, under which nothing of AWS may publish")
        unsure += ["a topic"] * bool(key)
    for queue in stack.physical_ids("AWS::SQS::Queue"):
        answer = stack.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["KmsMasterKeyId"])
        key = answer.get("Attributes", {}).get("KmsMasterKeyId")
        if key and key.startswith(AWS_KEYS):
            raise failed(f"a queue is encrypted with {key}, under which S3 and SNS may not send")
        unsure += ["a queue"] * bool(key)
    for name in ("BirdApiKeySecretArn", "PostgresSecretArn"):
        if arn := parameters.get(name):
            key = stack.secrets_in(region_of(arn)).describe_secret(SecretId=arn).get("KmsKeyId")
            if key and "alias/aws/" not in key and not is_one_of(key, reads):
                unsure.append(f"the secret of {name}")
    for arn in reads:
        described = kms_in(stack, arn.split(":")[3]).describe_key(KeyId=arn)["KeyMetadata"]
        if described["KeyState"] != "Enabled":
            raise failed(f"the key {arn} is {described['KeyState']}: nothing under it can be read")
    if unsure:
        raise warning(f"under a key of yours: {', '.join(dict.fromkeys(unsure))}")
    return f"buckets and secrets are under {writes}, which is enabled" if writes else "AWS's own keys"


def kms_in(stack: Stack, region: str) -> Any:
    ours = stack.client("kms")
    return ours if region == ours.meta.region_name else stack.client("kms", region)


def key_of_bucket(stack: Stack, bucket: str) -> str:
    """The key of its default encryption; '' for S3's own."""
    rules = stack.s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    keys = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID", "") for rule in rules]
    return next(filter(None, keys), "")


def is_one_of(key: str, arns: list[str]) -> bool:
    """A key is named by its ARN or by its id alone."""
    return any(arn and key in (arn, arn.rpartition("/")[2]) for arn in arns)


def event_sources(stack: Stack) -> str:
    mappings = stack.physical_ids("AWS::Lambda::EventSourceMapping")
    for mapping in mappings:
        found = stack.client("lambda").get_event_source_mapping(UUID=mapping)
        if found["State"] not in ("Enabled", "Enabling", "Updating", "Creating"):
            queue = str(found.get("EventSourceArn", "")).rpartition(":")[2]
            raise failed(f"the queue {logical(stack, queue)} is not read: {found['State']}")
    return f"{len(mappings)} queues are read"


def concurrency(stack: Stack) -> str:
    """https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html: new accounts may have ten."""
    limits = stack.client("lambda").get_account_settings().get("AccountLimit", {})
    if "ConcurrentExecutions" not in limits:
        raise not_tried("the account does not say")
    count = int(limits["ConcurrentExecutions"])
    if count < FEW_EXECUTIONS:
        raise warning(f"the account lets {count} functions run at once")
    return f"the account lets {count:,} functions run at once"


def report(stack: Stack) -> str:
    parameters = stack.parameters
    try:
        time_zone(parameters.get("ReportTimezone", "UTC"))
    except ArgumentTypeError:
        raise failed(f"ReportTimezone: there is no time zone {clean(parameters['ReportTimezone'])}") from None
    try:
        thresholds(parameters.get("DeliverabilityThresholds", ""))
    except ValueError as error:
        raise failed(f"DeliverabilityThresholds: {clean(str(error))}") from None
    return "time zone and thresholds can be used"


def logical(stack: Stack, name: str) -> str:
    """The template's name for a queue, which says more than the one that CloudFormation made."""
    for logical_id, (_, physical_id) in stack.resources.items():
        if physical_id.rpartition("/")[2] == name:
            return logical_id
    return name


def _arn_of_queue(stack: Stack, url: str) -> str:
    answer = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def raw_batches(stack: Stack) -> str:
    found = unannounced.unannounced(stack)
    parts = [f"{len(found.copies):,} copied in parts, such as {clean(found.copies[0])}"] if found.copies else []
    if found.imported:
        parts.append(f"{len(found.imported):,} stored by an import and not handed over")
    if found.unheard:
        parts.append(
            f"{len(found.unheard):,} stored while no stack may have listened, such as {clean(found.unheard[0])}"
        )
    if parts:
        raise warning(f"no rows of {', '.join(parts)}")
    return "none was left unannounced" + ("" if found.listed_all else f" of the first {unannounced.MOST_LISTED:,}")
