"""Proof that a deployed stack works, from Bird's POST to the answer of a query: the first command after a deployment.

A test batch goes the way of Bird's batches and is taken out again. Each check is a line as soon as it is known: `ok`,
`warning`, `failed`, or `not tried` for what cannot be tried from here, which is no failure.
"""

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import psycopg.sql
from botocore.exceptions import BotoCoreError, ClientError

from bird_webhooks.errors import OperateError, PostgresError
from bird_webhooks.operate import completeness, verify_event, verify_settings, verify_sql
from bird_webhooks.operate.findings import (
    FAILED,
    NOT_TRIED,
    OK,
    WARNING,
    Advice,
    Finding,
    Outcome,
    failed,
    not_tried,
    scrubbed,
    warning,
)
from bird_webhooks.operate.front_door import Answer, FrontDoor, Network
from bird_webhooks.operate.verify_advice import ADVICE, ALARMS_CHANGED, NAME_AND_CERTIFICATE, RUNBOOK, advice_for
from bird_webhooks.postgres import connected
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import print_json, say
from reconcile.proved import LOOK_BACK, State, sentence
from register_webhook.bird_api import BirdApi, BirdError, NotNowError
from register_webhook.webhook import UnusableSettingError, api_key, same_target
from report.athena import Athena, QueryFailedError

PING = b'[{"msys":{}}]'  # what Bird sends when a webhook is made
EVERYBODY = "0.0.0.0/0"
CERTIFICATE_ENDS_SOON = timedelta(days=14)  # ACM renews 45 days before, so it has failed to by then
ALL_SECONDS = 165  # every wait ends by then, so that all is said within three minutes
ROW_SECONDS = 90  # the batching window is 20 s
QUERY_SECONDS = 60
DRAIN_SECONDS = 30
POSTGRES_SECONDS = 45
POSTGRES_CONNECT_SECONDS = 5
BIRD_APIS = {"US": "https://api.sparkpost.com/api/v1", "EU": "https://api.eu.sparkpost.com/api/v1"}
AT_REST = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "IMPORT_COMPLETE")
UNREACHED = (OSError, http.client.HTTPException)  # ssl.SSLError is an OSError


def verify(stack: Stack, *, token: str | None, as_json: bool, network: Network | None = None) -> bool:
    """Whether nothing failed. Lines, or one JSON document to paste into a bug report with the lines beside it."""
    _ = stack.described  # no stack is an error, not a line
    began = time.monotonic()
    run = Verification(stack, token, network or Network())
    show = say if as_json else partial(print, flush=True)
    outcomes = []
    for outcome in run.outcomes():
        outcomes.append(outcome)
        show(outcome.lines)
    seconds = time.monotonic() - began
    counts = ", ".join(
        f"{count} {status}"
        for status in (OK, WARNING, FAILED, NOT_TRIED)
        if (count := sum(outcome.status == status for outcome in outcomes))
    )
    show(f"{counts}, in {seconds:.0f} s")
    if as_json:
        print_json(run.document(outcomes, seconds))
    return all(outcome.status != FAILED for outcome in outcomes)


class Verification:
    """One run. What an early check finds out decides what the later ones can try."""

    def __init__(self, stack: Stack, token: str | None, network: Network) -> None:
        self.stack, self.token, self.network = stack, token, network
        self.ends = time.monotonic() + ALL_SECONDS
        self.event = verify_event.new(datetime.now(UTC))
        self.stranger_event = verify_event.new(datetime.now(UTC))
        self.secrets = [token] if token else []
        self.addresses: list[str] = []
        self.door: FrontDoor | None = None  # once it was reached
        self.unreached = "name or certificate are not in order"
        self.stored = self.arrived = False
        self.left_in_postgres = ""

    def outcomes(self) -> Iterator[Outcome]:
        yield self.outcome("stack", self.deployment)
        yield self.outcome("name", self.name)
        yield self.outcome("certificate", self.certificate)
        yield self.outcome("probe", self.probe)
        yield self.outcome("stranger", self.stranger)
        yield self.outcome("other path", self.other_path)
        for name, check in verify_settings.checks(self.stack):
            yield self.outcome(name, partial(check, self.stack))
        try:
            yield self.outcome("batch stored", self.batch_stored)
            yield self.outcome("row in events", self.row_in_events)
            yield from self.questions()
            yield self.outcome("row in PostgreSQL", self.row_in_postgres)
        finally:  # whatever happens between, but for an end of the process: then the next run does it
            removed = self.outcome("test data removed", self.test_data_removed)
        yield removed
        yield self.outcome("alarms are heard", self.alarms_are_heard)
        yield self.outcome("no alarm fires", self.no_alarm_fires)
        yield from self.queues()
        yield self.outcome("report", self.report)
        yield self.outcome("webhook at Bird", self.webhook_at_bird)
        yield self.outcome("completeness", self.completeness)

    def outcome(self, name: str, check: Callable[[], str]) -> Outcome:
        began = time.monotonic()
        status, advice = OK, None
        try:
            said = check()
        except Finding as finding:
            status, said, advice = finding.status, finding.said, finding.advice
        except ClientError as error:
            code = error.response["Error"]["Code"]
            denied = "AccessDenied" in code or "Unauthorized" in code or code == "403"
            status = NOT_TRIED if denied else FAILED
            said = f"not allowed: {error.operation_name}" if denied else f"{error.operation_name} says {code}"
        except (BotoCoreError, OperateError, *UNREACHED) as error:
            status, said = FAILED, f"{type(error).__name__}: {error}"
        advice = advice or advice_for(name) if status in (FAILED, WARNING) else None
        for secret in self.secrets:
            said = said.replace(secret, "<secret>")
        return Outcome(name, status, time.monotonic() - began, " ".join(said.split()), advice)

    def at_most(self, seconds: float) -> float:
        """That long, or what is left of the time."""
        return max(0, min(seconds, self.ends - time.monotonic()))

    # --- The front door ---

    def deployment(self) -> str:
        status = str(self.stack.described["StackStatus"])
        if status not in AT_REST:
            raise failed(status)
        return status

    @property
    def public_url(self) -> str:
        return self.stack.output("WebhookUrl")

    def name(self) -> str:
        if self.stack.reached_at:
            self.door = FrontDoor(self.stack.reached_at, self.network)
            raise not_tried("the local AWS has no names")
        door = FrontDoor(self.public_url, self.network)
        self.addresses = self.network.resolve(door.host)
        if not self.addresses:
            self.unreached = "the name does not resolve"
            raise failed(f"{door.host} does not resolve")
        self.door = door
        behind = self.stack.outputs.get("LoadBalancerDnsName") or self.stack.outputs.get("HttpApiDnsName")
        said = f"{door.host} is {', '.join(self.addresses)}"
        if behind and behind != door.host:
            theirs = self.network.resolve(behind)
            if theirs and not set(theirs) & set(self.addresses):
                raise warning(
                    f"{said}, and the stack's front door is {', '.join(theirs)}",
                    Advice(
                        "The name leads elsewhere, unless a proxy of yours stands before the stack",
                        ADVICE["name"].do,
                        NAME_AND_CERTIFICATE,
                    ),
                )
        return said

    def certificate(self) -> str:
        door = self.required_door()
        if self.stack.reached_at:
            raise not_tried("the local AWS has no certificates")
        try:
            ends = door.certificate_ends()
        except ssl.SSLCertVerificationError as error:
            self.close_door("the certificate is not valid")
            raise failed(f"not valid: {error.verify_message}") from None
        except ssl.SSLError as error:
            self.close_door("there is no TLS")
            raise failed(f"no TLS: {error.reason}") from None
        except OSError as error:
            self.close_door("nothing answers at port 443 from here")
            if self.restricted:
                raise not_tried(
                    "port 443 does not answer from here: only the senders that the stack names reach it"
                ) from None
            raise failed(
                f"port 443 does not answer: {error}",
                Advice(
                    "Nothing takes Bird's connections, or a firewall between here and there does not let any out",
                    "see the load balancer's subnets, routes and security group; try from another network",
                    NAME_AND_CERTIFICATE,
                ),
            ) from None
        said = f"valid for {door.host} until {ends:%Y-%m-%d}"
        if ends - datetime.now(UTC) < CERTIFICATE_ENDS_SOON:
            raise warning(
                f"{said}, and not renewed yet",
                Advice(
                    "Bird stops sending when it has expired",
                    "see in ACM why it is not renewed: its validation record must be in the zone; import yours again",
                    NAME_AND_CERTIFICATE,
                ),
            )
        return said

    @property
    def restricted(self) -> bool:
        """Whether only some may reach the load balancer."""
        parameters = self.stack.parameters
        if parameters.get("FrontDoor", "HTTP_API") != "ALB":
            return False
        named = parameters.get("SenderHostName") or parameters.get("SenderPrefixListId")
        return bool(named) or parameters.get("SenderCidrs", EVERYBODY) != EVERYBODY

    @property
    def auth(self) -> str:
        return self.stack.parameters["WebhookAuth"]

    def required_door(self) -> FrontDoor:
        if self.door is None:
            raise not_tried(self.unreached)
        return self.door

    def close_door(self, why: str) -> None:
        self.door, self.unreached = None, why

    def probe(self) -> str:
        """Bird may probe before it has credentials; with OAUTH2 the load balancer wants a token even so."""
        door = self.required_door()
        headers = {"content-type": "application/json"}
        if self.auth == "OAUTH2":
            if not self.token:
                raise not_tried("OAUTH2 wants a token: give --token")
            headers |= self.credentials()
        answer = door.send("POST", headers, PING)
        if (answer.status, status_of(answer)) != (200, "ping"):
            raise failed(f"answered {words(answer)} instead of 200 ping")
        return words(answer)

    def stranger(self) -> str:
        """With wrong credentials. One request: ten refusals within an hour fire an alarm."""
        door = self.required_door()
        if self.auth == "NONE":
            raise warning("WebhookAuth is NONE: every sender is accepted")
        answer = door.send(
            "POST", self.headers(self.stranger_event, self.wrong_credentials()), self.stranger_event.body
        )
        if answer.status != 401:
            raise failed(f"answered {words(answer)} instead of 401")
        return words(answer)

    def other_path(self) -> str:
        door = self.required_door()
        path = f"{door.parts.path.removesuffix(self.path)}/{self.event.id}"
        answer = door.send("GET", path=path)
        if answer.status != 404:
            raise failed(f"another path answered {words(answer)} instead of 404")
        return words(answer)

    @property
    def path(self) -> str:
        return FrontDoor(self.public_url).parts.path

    # --- The test batch ---

    def credentials(self) -> dict[str, str]:
        """The header that Bird would send."""
        if self.auth == "NONE":
            return {}
        if self.auth == "OAUTH2":
            return {"authorization": f"Bearer {self.token}"}
        answer = self.stack.client("secretsmanager").get_secret_value(SecretId=self.stack.output("WebhookSecretArn"))
        login = json.loads(answer["SecretString"])
        self.secrets.append(login["password"])
        if self.auth == "HEADER":
            return {self.stack.parameters["WebhookHeader"]: login["password"]}
        pair = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
        self.secrets.append(pair)
        return {"authorization": f"Basic {pair}"}

    def wrong_credentials(self) -> dict[str, str]:
        if self.auth == "OAUTH2":
            return {"authorization": "Bearer a.stranger.s"}
        if self.auth == "HEADER":
            return {self.stack.parameters["WebhookHeader"]: "a stranger's"}
        return {"authorization": f"Basic {base64.b64encode(b'bird:a stranger').decode()}"}

    def headers(self, event: verify_event.VerifyEvent, credentials: dict[str, str]) -> dict[str, str]:
        return {"content-type": "application/json", "x-messagesystems-batch-id": event.id, **credentials}

    def batch_stored(self) -> str:
        by_door = self.door is not None and (self.auth != "OAUTH2" or bool(self.token))
        if by_door:
            answer = self.required_door().send("POST", self.headers(self.event, self.credentials()), self.event.body)
        else:
            answer = self.invoke_ingest()
        how = "through the front door" if by_door else "by lambda:Invoke of ingest"
        if (answer.status, status_of(answer)) != (200, "stored"):
            raise failed(f"{how}: answered {words(answer)} instead of 200 stored")
        key = verify_event.raw_key(self.stack, self.event)
        try:
            found = self.stack.s3.get_object(Bucket=self.stack.output("RawBucketName"), Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
                raise
            raise failed(
                f"{how}: answered 200, and is not in this stack's raw bucket",
                Advice(
                    "The name leads to another stack that accepts the same credentials",
                    ADVICE["name"].do,
                    NAME_AND_CERTIFICATE,
                ),
            ) from None
        self.stored = True
        if found != self.event.body:
            raise failed(f"{how}: stored with another body")
        return how

    def invoke_ingest(self) -> Answer:
        """As the front door would; ingest takes every token, for the load balancer has looked at it before."""
        credentials = {"authorization": "Bearer verify"} if self.auth == "OAUTH2" else self.credentials()
        headers = self.headers(self.event, credentials)
        body = {"body": self.event.body.decode(), "isBase64Encoded": False}
        if self.stack.parameters.get("FrontDoor") == "ALB":
            request: dict[str, Any] = {
                "requestContext": {"elb": {"targetGroupArn": self.stack.resources["IngestTargetGroup"][1]}},
                "httpMethod": "POST",
                "path": self.path,
                "multiValueHeaders": {name: [value] for name, value in headers.items()},
                **body,
            }
        else:
            context = {"http": {"method": "POST", "path": self.path}}
            request = {"version": "2.0", "rawPath": self.path, "headers": headers, "requestContext": context, **body}
        answer = self.stack.client("lambda").invoke(
            FunctionName=self.stack.output("IngestFunctionArn"), Payload=json.dumps(request).encode()
        )
        said = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise failed(
                f"ingest failed: {said.get('errorType', 'no reason given')}",
                Advice("ingest answers no request: Bird hears 502", "see its log", f"{RUNBOOK}#ingesterrorsalarm"),
            )
        return Answer(int(said["statusCode"]), "", str(said.get("body", "")).encode())

    def row_in_events(self) -> str:
        if not self.stored:
            raise not_tried("there is no test batch")
        sql = verify_sql.rows_of_batch(self.event.made_at.date(), self.event.id)
        began, seconds = time.monotonic(), self.at_most(ROW_SECONDS)
        while True:
            try:
                [row] = self.ask(sql)
            except QueryFailedError as error:
                raise failed(f"Athena: {error}", ADVICE["view"]) from None
            if int(row["events"] or 0):
                self.arrived = True
                return f"within {time.monotonic() - began:.0f} s"
            if time.monotonic() - began > seconds:
                raise failed(f"not there after {seconds:.0f} s; {self.on_its_way()}")
            time.sleep(self.stack.poll_seconds)

    def on_its_way(self) -> str:
        waiting, reading = self.messages(self.stack.output("ProcessQueueUrl"))
        dead = sum(self.messages(self.stack.output("ProcessDeadLetterQueueUrl")))
        if not waiting + reading + dead:
            return "no message about it waits: S3 has not announced it, or process has set it aside"
        return f"{waiting:,} messages wait, {reading:,} are being processed, {dead:,} are dead letters"

    # --- Questions ---

    @property
    def athena(self) -> Athena:
        return self.stack.athena(self.at_most(QUERY_SECONDS))

    def ask(self, sql: str) -> list[dict[str, str | None]]:
        return self.athena.rows({"query": sql})["query"]

    def questions(self) -> Iterator[Outcome]:
        """All at once; each is a line when it is its turn."""
        statements: dict[str, str] = {}

        def found() -> str:
            statements.update(self.statements())
            return f"{len(statements)} views and saved queries to ask"

        listing = self.outcome("views and queries", found)
        if listing.status != OK:
            yield listing
            return
        self.stack.client("athena")  # made once, before many threads want it
        with ThreadPoolExecutor(len(statements) or 1) as pool:
            asked = {name: pool.submit(self.ask, sql) for name, sql in statements.items()}
            for name, answer in asked.items():
                yield self.outcome(name, partial(self.answered, answer))

    def answered(self, answer: "Future[list[dict[str, str | None]]]") -> str:
        try:
            rows = answer.result()
        except QueryFailedError as error:
            said = str(error).removeprefix("query: ")
            if said.startswith("no answer within"):
                raise not_tried(f"{said}: it reads many days") from None
            raise failed(f"Athena: {said}") from None
        return (
            f"{len(rows)} rows" if not rows or "events" not in rows[0] or len(rows) > 1 else f"{rows[0]['events']} rows"
        )

    def statements(self) -> dict[str, str]:
        """By the name of their line: the views of the catalogue, and the saved queries of the stack."""
        database = self.stack.output("GlueDatabaseName")
        pages = self.stack.client("glue").get_paginator("get_tables").paginate(DatabaseName=database)
        day = self.event.made_at.date()
        found = {}
        for table in (table for page in pages for table in page["TableList"]):
            if table.get("TableType") == "VIRTUAL_VIEW":
                columns = [column["Name"] for column in table["StorageDescriptor"]["Columns"]]
                found[f"view {table['Name']}"] = verify_sql.of_view(table["Name"], columns, day)
        if ids := self.stack.physical_ids("AWS::Athena::NamedQuery"):
            queries = self.stack.client("athena").batch_get_named_query(NamedQueryIds=ids)["NamedQueries"]
            saved = {query["Name"]: query["QueryString"] for query in queries}
        else:  # the local AWS has none
            saved = verify_sql.saved_queries()
        return dict(sorted(found.items())) | {f"query {name}": sql for name, sql in sorted(saved.items())}

    # --- PostgreSQL ---

    def row_in_postgres(self) -> str:
        """Also takes it out again, which cannot be done for a database that this machine does not reach."""
        secret = self.stack.parameters.get("PostgresSecretArn")
        if not secret:
            raise not_tried("rows go into no PostgreSQL")
        if not self.arrived:
            raise not_tried("there is no test row")
        schema = psycopg.sql.Identifier(self.stack.parameters.get("PostgresSchema", "bird"))
        remove = psycopg.sql.SQL(verify_sql.REMOVE_FROM_POSTGRES).format(schema)
        values = [verify_event.EVENT_CLASS, verify_event.EVENT_TYPE, self.event.id]
        self.left_in_postgres = verify_sql.REMOVE_ALL_FROM_POSTGRES.format(schema.as_string())
        options = {"connect_timeout": POSTGRES_CONNECT_SECONDS, "autocommit": True}
        try:
            with connected(self.stack, secret, **options) as database:
                began, seconds = time.monotonic(), self.at_most(POSTGRES_SECONDS)
                try:
                    while not database.execute(remove, values).rowcount:
                        if time.monotonic() - began > seconds:
                            raise failed(f"not there after {seconds:.0f} s")
                        time.sleep(self.stack.poll_seconds)
                except psycopg.errors.UndefinedTable:
                    raise failed("there is no table events yet: load_postgres makes it with the first file") from None
                except psycopg.Error as error:
                    raise failed(f"PostgreSQL: {error.diag.message_primary or type(error).__name__}") from None
        except PostgresError:
            raise not_tried(
                f"no connection to the database from here; the test row stays: {self.left_in_postgres}"
            ) from None
        self.left_in_postgres = ""
        return f"within {time.monotonic() - began:.0f} s, and removed"

    def test_data_removed(self) -> str:
        rows, batches = verify_event.remove(self.stack, [self.event, self.stranger_event], datetime.now(UTC))
        if self.left_in_postgres:
            raise warning(
                f"{rows} rows and {batches} batches; not in PostgreSQL",
                Advice(
                    "One row of the test stays in PostgreSQL, where no view or list counts it",
                    f"run {self.left_in_postgres}",
                    "docs/operating.md#verify",
                ),
            )
        return f"{rows} rows, {batches} batches"

    # --- What tells people, and what waits ---

    def alarms_are_heard(self) -> str:
        _, topic = self.stack.resources["AlarmTopic"]
        pages = self.stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        found = [subscription for page in pages for subscription in page["Subscriptions"]]
        confirmed = [one for one in found if one["SubscriptionArn"].startswith("arn:")]
        if not found:
            raise failed("the topic has no subscription: AlarmEmail is empty")
        if not confirmed:
            raise failed(f"{len(found)} subscriptions to the alarms, none of them confirmed")
        return f"{len(confirmed)} of {len(found)} subscriptions are confirmed"

    def no_alarm_fires(self) -> str:
        by_name = {
            name: logical_id
            for logical_id, (kind, name) in self.stack.resources.items()
            if kind == "AWS::CloudWatch::Alarm"
        }
        found: list[dict[str, Any]] = []
        for start in range(0, len(by_name), 100):
            names = list(by_name)[start : start + 100]
            found += self.stack.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
        firing = sorted(by_name[alarm["AlarmName"]] for alarm in found if alarm["StateValue"] == "ALARM")
        if firing == ["NoBatchesAlarm"]:
            raise warning(
                "NoBatchesAlarm fires: a new stack has had no batch yet, or Bird has sent none for SilenceHours"
            )
        if firing:
            sections = ", ".join(f"{RUNBOOK}#{name.lower()}" for name in firing)
            advice = ADVICE["no alarm fires"]
            raise failed(f"{', '.join(firing)} of {len(found)}", Advice(advice.means, advice.do, sections))
        gone = sorted(by_name[name] for name in by_name.keys() - {alarm["AlarmName"] for alarm in found})
        silent = sorted(by_name[alarm["AlarmName"]] for alarm in found if not alarm.get("ActionsEnabled", True))
        if gone or silent:
            said = [f"gone: {', '.join(gone)}"] * bool(gone) + [f"without actions: {', '.join(silent)}"] * bool(silent)
            raise failed("; ".join(said), ALARMS_CHANGED)
        return f"none of {len(found)}"

    def queues(self) -> Iterator[Outcome]:
        urls = {name: url for name, url in sorted(self.stack.outputs.items()) if name.endswith("QueueUrl")}
        for name, url in urls.items():
            dead = name.endswith("DeadLetterQueueUrl")
            short = name.removesuffix("QueueUrl")
            check = self.no_dead_letters if dead else self.drains
            label = f"dead letters {short.removesuffix('DeadLetter')}" if dead else f"queue {short}"
            yield self.outcome(label, partial(check, url))

    def messages(self, url: str) -> tuple[int, int]:
        """About how many wait, and how many are being worked on."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def drains(self, url: str) -> str:
        first = sum(self.messages(url))
        began, seconds = time.monotonic(), self.at_most(DRAIN_SECONDS)
        while True:
            waiting, reading = self.messages(url)
            if waiting + reading == 0:
                return "empty"
            if waiting + reading < first:
                return f"draining: {waiting:,} wait, {reading:,} are being worked on"
            if time.monotonic() - began > seconds:
                raise failed(f"{waiting:,} wait, {reading:,} are being worked on, and got no fewer in {seconds:.0f} s")
            time.sleep(self.stack.poll_seconds)

    def no_dead_letters(self, url: str) -> str:
        if count := sum(self.messages(url)):
            raise failed(f"{count:,} messages")
        return "empty"

    def report(self) -> str:
        if self.stack.parameters.get("DailyReport") != "true":
            raise not_tried("DailyReport is false")
        where = {"Bucket": self.stack.output("LakeBucketName"), "Key": "reports/latest.html"}
        try:
            self.stack.s3.head_object(**where)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
            raise not_tried("there is none yet: it is made at 06:00 UTC") from None
        link = self.stack.s3.generate_presigned_url("get_object", Params=where, ExpiresIn=300)
        answer = FrontDoor(link, self.network).send("GET")
        if answer.status != 200 or "text/html" not in answer.content_type:
            raise failed(f"the link answers {answer.status}")
        return f"the link opens, {len(answer.body) / 1000:,.0f} kB"

    # --- Bird ---

    def webhook_at_bird(self) -> str:
        known = self.stack.outputs.get("BirdWebhookId")
        if not known:
            raise not_tried("typed into Bird's form by hand: only an API key can ask Bird")
        parameters = self.stack.parameters
        try:
            key = api_key(self.stack.secret_text(parameters["BirdApiKeySecretArn"]))
        except UnusableSettingError as error:
            raise failed(str(error)) from None
        self.secrets.append(key)
        url = parameters.get("BirdApiUrl") or BIRD_APIS[parameters.get("BirdRegion", "US")]
        api = BirdApi(url, key, parameters.get("BirdSubaccount", ""))
        try:
            webhook = api.read(known)
            batches = api.batch_statuses(known) if webhook else []
        except NotNowError as error:
            raise not_tried(str(error)) from None
        except BirdError as error:
            raise failed(f"Bird refuses the API key: {error}") from None
        if webhook is None:
            raise failed("Bird has no such webhook any more")
        if not same_target(webhook.get("target"), self.public_url):
            raise failed(f"it sends to {webhook.get('target')}, and this stack is {self.public_url}")
        if not webhook.get("active", True):
            raise failed("it is paused at Bird")
        refused = [batch for batch in batches if str(batch.get("response_code")) != "200"]
        if batches and batches[-1] in refused:
            last = batches[-1]
            raise failed(
                f"the last of {len(batches)} batches that were delayed failed: it heard {last.get('response_code')}"
            )
        if str(webhook.get("last_failure") or "") > str(webhook.get("last_successful") or ""):
            raise failed(f"the last delivery failed, at {webhook['last_failure']} UTC")
        return f"points here; {len(batches)} batches of 24 hours needed more than one attempt"

    def completeness(self) -> str:
        """What the last runs have found; nothing is compared here."""
        if not completeness.is_on(self.stack):
            raise not_tried(f"not compared with Bird: {completeness.OFF}")
        now = datetime.now(UTC)
        cells, state, _ = completeness.known(self.stack, now - LOOK_BACK, now)
        said = "; ".join([sentence(cells, now), *completeness.notices(state, on=True)])
        if any(cell.state in (State.GAP, State.SURPLUS) for cell in cells) or state.get("lost"):
            raise warning(said)
        return said

    # --- For a bug report ---

    def document(self, outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
        # Not the short ones, which would be found in the midst of words.
        names = {value: name for name, value in self.stack.outputs.items() if len(value) > 12 and " " not in value}
        names |= {FrontDoor(url).host: name for name, url in self.stack.outputs.items() if url.startswith("https://")}
        names |= dict.fromkeys(self.addresses, "ip")

        def clean(text: str) -> str:
            return scrubbed(text, names, self.secrets)

        parameters = self.stack.parameters
        shown = ("FrontDoor", "WebhookAuth", "OutputFormat", "PublishEvents", "DailyReport", "Architecture")
        return {
            "command": "verify",
            "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
            "seconds": round(seconds, 1),
            "result": FAILED if any(outcome.status == FAILED for outcome in outcomes) else OK,
            "settings": {name: parameters[name] for name in shown if name in parameters}
            | {
                "PostgreSQL": bool(parameters.get("PostgresSecretArn")),
                "registered at Bird": bool(parameters.get("BirdApiKeySecretArn")),
                "senders restricted": self.restricted,
            },
            "checks": [
                {
                    "name": outcome.name,
                    "status": outcome.status,
                    "seconds": round(outcome.seconds, 1),
                    "said": clean(outcome.said),
                }
                | (
                    {"means": outcome.advice.means, "do": clean(outcome.advice.do), "section": outcome.advice.section}
                    if outcome.advice
                    else {}
                )
                for outcome in outcomes
            ],
        }


def status_of(answer: Answer) -> str:
    """What ingest says in its body; nothing if another server answered."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return ""
    return str(said.get("status", "")) if isinstance(said, dict) else ""


def words(answer: Answer) -> str:
    return f"{answer.status} {status_of(answer)}".strip()
