"""Rules for the transformed template: what AWS refuses or silently interprets differently, and cfn-lint accepts."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from local_aws.strict.intrinsics import Evaluation
from local_aws.strict.rules import Rule, rule

RULES: list[Rule] = []
Template = dict[str, Any]

VIEW = re.compile(r"/\* Presto View: (?P<definition>[A-Za-z0-9+/=]+) \*/")
# The members of the JSON in each view that Athena creates, and their types.
VIEW_MEMBERS = {"originalSql": str, "catalog": str, "schema": str, "columns": list, "runAsInvoker": bool}
# A notification filter in S3's encoding: safe characters, `+` for a space, and %XX.
ENCODED = r"(?:[A-Za-z0-9/!_.*'()+-]|%[0-9A-F]{2})*"
UNSAFE = ' &$@=;:,?\\{}^[]`<>~#|"%'
# Characters that XML 1.0 does not allow; CloudFormation's API uses XML.
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
MAX_SECONDS_OF_AN_ALARM = 86_400
CLOUDFORMATION = "https://docs.aws.amazon.com/AWSCloudFormation/latest"
# The longest text that a property may have, in characters, by the service's API reference.
LONGEST: dict[tuple[str, ...], int] = {
    ("AWS::Lambda::Function", "Description"): 256,
    ("AWS::CloudWatch::Alarm", "AlarmDescription"): 1024,
    ("AWS::Glue::Table", "TableInput", "Description"): 2048,
    ("AWS::Glue::Table", "TableInput", "ViewOriginalText"): 409_600,
    ("AWS::Athena::NamedQuery", "Name"): 128,
    ("AWS::Athena::NamedQuery", "Description"): 1024,
    ("AWS::Athena::NamedQuery", "QueryString"): 262_144,
    ("AWS::ElasticLoadBalancingV2::TargetGroup", "Name"): 32,
    ("AWS::Events::Rule", "Description"): 512,
    ("AWS::SecretsManager::Secret", "Description"): 2048,
    ("AWS::SNS::Topic", "DisplayName"): 100,
}
MAX_COUNTS = {"Parameters": 200, "Resources": 500, "Outputs": 200, "Mappings": 200}
MAX_TEMPLATE_BYTES = 1_000_000
MAX_DESCRIPTION = {"Parameters": 4000, "Outputs": 1024}
MAX_TEMPLATE_DESCRIPTION_BYTES = 1024
MAX_POLICY_CHARACTERS_OF_A_ROLE = 10_240
MAX_ENVIRONMENT_BYTES = 4096
MAX_COMMENT = 255
OF_AN_INTERFACE = {"ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface"}


def findings(template: Template) -> Iterator[str]:
    """All rules' findings, with each rule's name."""
    for each in RULES:
        for finding in each.apply(template):
            yield f"{finding} ({each.name}: {each.source})"


def of_type(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource.get("Properties", {})


def views(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, properties in of_type(template, "AWS::Glue::Table"):
        if properties["TableInput"].get("TableType") == "VIRTUAL_VIEW":
            yield name, properties["TableInput"]


# --- Glue and Athena -------------------------------------------------------------------------------------------------


@rule("https://docs.aws.amazon.com/athena/latest/ug/views.html", RULES)
def views_have_partition_keys(template: Template) -> Iterator[str]:
    """Athena cannot query a view created through Glue without PartitionKeys: they must be an empty list."""
    for name, table in views(template):
        if table.get("PartitionKeys") != []:
            yield f"view {name} needs PartitionKeys: []"


@rule("https://docs.aws.amazon.com/glue/latest/webapi/API_SerDeInfo.html", RULES)
def tables_have_a_serde(template: Template) -> Iterator[str]:
    """Athena cannot query a table or view without a serialization library."""
    for name, properties in of_type(template, "AWS::Glue::Table"):
        for evaluation in Evaluation.both(template):
            descriptor = evaluation.plain(properties["TableInput"].get("StorageDescriptor") or {})
            if not (descriptor.get("SerdeInfo") or {}).get("SerializationLibrary"):
                yield f"table {name} has no SerdeInfo with a SerializationLibrary"
                break


@rule(
    "https://github.com/trinodb/trino/blob/476/plugin/trino-hive/src/main/java/io/trino/plugin/hive/ViewReaderUtil.java",
    RULES,
)
def views_have_their_comment_and_no_description(template: Template) -> Iterator[str]:
    """Athena's engine knows a view by the parameters presto_view and comment; a Description replaces the comment."""
    for name, table in views(template):
        parameters = table.get("Parameters", {})
        if (parameters.get("presto_view"), parameters.get("comment")) != ("true", "Presto View"):
            yield f'view {name} needs the parameters presto_view "true" and comment "Presto View"'
        if "Description" in table:
            yield f"view {name} has a Description: its text belongs in the comment of the view's JSON"


@rule(
    "https://github.com/trinodb/trino/blob/476/core/trino-spi/src/main/java/io/trino/spi/connector/ConnectorViewDefinition.java",
    RULES,
)
def views_hold_the_json_that_athena_writes(template: Template) -> Iterator[str]:
    """The JSON in a view names its SQL, catalog, schema in lower case and columns, and says runAsInvoker."""
    for name, table in views(template):
        for evaluation in Evaluation.both(template):
            matched = VIEW.fullmatch(str(evaluation.plain(table.get("ViewOriginalText"))))
            if not matched:
                yield f"view {name}: its ViewOriginalText is not /* Presto View: <base64> */"
                break
            try:
                view = json.loads(base64.b64decode(matched["definition"]))
            except ValueError as error:
                yield f"view {name}: its definition is not JSON: {error}"
                break
            wrong = [member for member, kind in VIEW_MEMBERS.items() if not isinstance(view.get(member), kind)]
            if wrong:
                yield f"view {name}: its JSON lacks {', '.join(wrong)}"
                break
            columns = [column["Name"] for column in table["StorageDescriptor"]["Columns"]]
            if [column["name"] for column in view["columns"]] != columns:
                yield f"view {name}: the columns of its JSON are not those of the table"
                break


@rule("https://docs.aws.amazon.com/glue/latest/webapi/API_DatabaseInput.html", RULES)
def glue_names_are_in_lower_case(template: Template) -> Iterator[str]:
    """Glue stores names in lower case, but Ref and IAM's ARNs keep the template's: a stack's name may have capitals."""
    evaluation = Evaluation(template)
    named = [(name, evaluation.ref(name)) for name, _ in of_type(template, "AWS::Glue::Database")]
    named += [
        (name, evaluation.plain(found["TableInput"]["Name"])) for name, found in of_type(template, "AWS::Glue::Table")
    ]
    for name, text in named:
        if text != text.lower():
            yield f"{name} is called {text} in a stack called {evaluation.stack_name}"
    for name, resource in template["Resources"].items():
        for statement in statements(resource):
            for target in as_list(statement.get("Resource")):
                arn = str(evaluation.plain(target))
                if ":glue:" in arn and arn != arn.lower():
                    yield f"{name} allows {arn} in a stack called {evaluation.stack_name}"


# --- S3 --------------------------------------------------------------------------------------------------------------


@rule("https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html", RULES)
def notification_filters_are_encoded(template: Template) -> Iterator[str]:
    """S3 compares a filter in its own encoding: a space must be `+`, other special characters %XX."""
    for name, properties in of_type(template, "AWS::S3::Bucket"):
        for value in filter_values(properties.get("NotificationConfiguration")):
            for parameter, sample in samples(template, value):
                text = str(Evaluation(template, {parameter: sample} if parameter else {}).plain(value))
                if not re.fullmatch(ENCODED, text):
                    because = f" if {parameter} is {sample!r}" if parameter else ""
                    yield f"bucket {name}: the filter of a notification is {text!r}{because}"
                    break


def filter_values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if value.get("Name") in ("prefix", "suffix"):
            yield value["Value"]
        for part in value.values():
            yield from filter_values(part)
    elif isinstance(value, list):
        for part in value:
            yield from filter_values(part)


def samples(template: Template, value: Any) -> Iterator[tuple[str, str]]:
    """First the defaults alone, then each unsafe character that a parameter in the value may have."""
    yield "", ""
    text = json.dumps(value)
    for name, parameter in template.get("Parameters", {}).items():
        if f'"Ref": "{name}"' in text or f"${{{name}}}" in text:
            pattern = parameter.get("AllowedPattern", ".*")
            yield from ((name, f"a{sign}b") for sign in UNSAFE if re.fullmatch(pattern, f"a{sign}b"))


# --- CloudFormation --------------------------------------------------------------------------------------------------


@rule(f"{CLOUDFORMATION}/UserGuide/cloudformation-limits.html", RULES)
def sizes_are_within_cloudformations_limits(template: Template) -> Iterator[str]:
    """CloudFormation bounds the template, the number of its parts, and their descriptions."""
    if (size := len(json.dumps(template).encode())) > MAX_TEMPLATE_BYTES:
        yield f"the template has {size} bytes"
    if len(str(template.get("Description", "")).encode()) > MAX_TEMPLATE_DESCRIPTION_BYTES:
        yield "the template's description is too long"
    for section, most in MAX_COUNTS.items():
        if (count := len(template.get(section, {}))) > most:
            yield f"{count} {section.lower()}, at most {most} are allowed"
    for section, most in MAX_DESCRIPTION.items():
        for name, part in template.get(section, {}).items():
            if (length := len(str(part.get("Description", "")))) > most:
                yield f"the description of {name} has {length} characters, at most {most} are allowed"


@rule("https://www.w3.org/TR/xml/#charsets", RULES)
def text_can_be_xml(template: Template) -> Iterator[str]:
    """CloudFormation's API uses XML, which has no NUL and almost no control characters, not even escaped."""
    for path, text in texts(template):
        if found := NOT_IN_XML.search(text):
            yield f"{path} holds the character U+{ord(found[0]):04X}"


def texts(value: Any, path: str = "template") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"a key of {path}", str(key)
            yield from texts(part, f"{path}.{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from texts(part, f"{path}.{number}")
    elif isinstance(value, str):
        yield path, value


@rule(f"{CLOUDFORMATION}/TemplateReference/aws-attribute-deletionpolicy.html", RULES)
def failed_creations_leave_nothing(template: Template) -> Iterator[str]:
    """Retain keeps a resource even when its creation is rolled back, and then the next attempt finds its name taken."""
    for name, resource in template["Resources"].items():
        if resource.get("DeletionPolicy") == "Retain":
            yield f"{name} has DeletionPolicy Retain: RetainExceptOnCreate keeps it as well once it is in use"
        if resource.get("UpdateReplacePolicy") == "RetainExceptOnCreate":
            yield f"{name} has UpdateReplacePolicy RetainExceptOnCreate, which is not one of its values"


@rule(f"{CLOUDFORMATION}/UserGuide/aws-resource-cloudformation-customresource.html", RULES)
def custom_resources_give_up_after_their_function(template: Template) -> Iterator[str]:
    """CloudFormation waits an hour for an answer unless ServiceTimeout, 1 to 3600 s, says less."""
    for name, properties in of_type(template, "AWS::CloudFormation::CustomResource"):
        wait = properties.get("ServiceTimeout", 3600)
        function = (properties["ServiceToken"].get("Fn::GetAtt") or [""])[0]
        takes = template["Resources"].get(function, {}).get("Properties", {}).get("Timeout", 3)
        if not int(takes) < int(wait) < 3600:
            yield f"{name} waits for {wait} s, and its function may take {takes} s"


# --- The sizes and names of the services -----------------------------------------------------------------------------


@rule(f"{CLOUDFORMATION}/TemplateReference/", RULES)
def texts_are_as_long_as_their_service_takes(template: Template) -> Iterator[str]:
    """Each service limits its descriptions, names and texts; cfn-lint does not see the results of intrinsics."""
    evaluation = Evaluation(template)
    for (kind, *path), most in LONGEST.items():
        for name, properties in of_type(template, kind):
            value: Any = properties
            for key in path:
                value = (value or {}).get(key)
            if (length := len(str(evaluation.plain(value or "")))) > most:
                yield f"{name}: {'.'.join(path)} has {length} characters, at most {most} are allowed"
    for name, properties in of_type(template, "AWS::Glue::Table"):
        for comment in re.findall(r'"Comment": "((?:[^"\\]|\\.)*)"', json.dumps(properties)):
            if len(comment) > MAX_COMMENT:
                yield f"{name}: a column has a comment of {len(comment)} characters, at most {MAX_COMMENT} are allowed"


@rule("https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html", RULES)
def environments_hold_four_kilobytes(template: Template) -> Iterator[str]:
    """The environment variables of a function may have 4 KB in all, names included."""
    evaluation = Evaluation(template)
    for name, properties in of_type(template, "AWS::Lambda::Function"):
        variables = evaluation.plain(properties.get("Environment", {}).get("Variables", {}))
        size = sum(len(str(text).encode()) for pair in variables.items() for text in pair)
        if size > MAX_ENVIRONMENT_BYTES:
            yield f"{name}: its environment has {size} bytes"


@rule("https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html", RULES)
def policies_of_a_role_fit(template: Template) -> Iterator[str]:
    """All inline policies of a role have 10,240 characters together, white space aside."""
    evaluation = Evaluation(template)
    for name, properties in of_type(template, "AWS::IAM::Role"):
        policies = evaluation.plain(properties.get("Policies", []))
        length = sum(len(re.sub(r"\s", "", json.dumps(policy["PolicyDocument"]))) for policy in policies)
        if length > MAX_POLICY_CHARACTERS_OF_A_ROLE:
            yield f"{name}: its policies have {length} characters"


@rule("https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html", RULES)
def queues_hide_messages_for_six_times_their_function(template: Template) -> Iterator[str]:
    """A queue's VisibilityTimeout must be at least the function's timeout, and should be six times as long."""
    for name, properties in of_type(template, "AWS::Lambda::EventSourceMapping"):
        queue = template["Resources"].get(referred(properties.get("EventSourceArn")), {})
        function = template["Resources"].get(referred(properties.get("FunctionName")), {})
        if queue.get("Type") == "AWS::SQS::Queue":
            hidden = int(queue.get("Properties", {}).get("VisibilityTimeout", 30))
            takes = int(function.get("Properties", {}).get("Timeout", 3))
            if hidden < 6 * takes:
                yield f"{name}: the queue hides a message for {hidden} s, and the function may take {takes} s"


@rule(
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html",
    RULES,
)
def alarms_on_dead_letters_do_not_recover_by_silence(template: Template) -> Iterator[str]:
    """SQS stops reporting a queue that is idle for six hours, so missing data must not end such an alarm."""
    for name, alarm in of_type(template, "AWS::CloudWatch::Alarm"):
        counts_messages = alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible"
        if counts_messages and alarm.get("TreatMissingData") != "ignore":
            yield f"alarm {name} needs TreatMissingData: ignore"


@rule("https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html", RULES)
def alarms_look_back_a_day_at_most(template: Template) -> Iterator[str]:
    """Period times EvaluationPeriods may be at most a day."""
    for name, alarm in of_type(template, "AWS::CloudWatch::Alarm"):
        period, periods = alarm.get("Period", 0), alarm.get("EvaluationPeriods", 1)
        if isinstance(period, int) and isinstance(periods, int) and period * periods > MAX_SECONDS_OF_AN_ALARM:
            yield f"alarm {name} looks back {period * periods} s"


@rule("https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html", RULES)
def listeners_name_a_tls_policy(template: Template) -> Iterator[str]:
    """A listener without SslPolicy gets ELBSecurityPolicy-2016-08, which takes TLS 1.0."""
    for name, listener in of_type(template, "AWS::ElasticLoadBalancingV2::Listener"):
        if listener.get("Protocol") == "HTTPS" and "TLS13" not in str(listener.get("SslPolicy")):
            yield f"listener {name} has SslPolicy {listener.get('SslPolicy')}"
    for name, domain in of_type(template, "AWS::ApiGatewayV2::DomainName"):
        for configuration in domain.get("DomainNameConfigurations", []):
            if configuration.get("SecurityPolicy") != "TLS_1_2":
                yield f"domain {name} has SecurityPolicy {configuration.get('SecurityPolicy')}"


@rule("https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html", RULES)
def functions_in_a_vpc_may_make_interfaces(template: Template) -> Iterator[str]:
    """Lambda puts a function into a VPC only if the function's own role may create network interfaces."""
    inside = Evaluation(template, branch=1)
    for name, function in of_type(template, "AWS::Lambda::Function"):
        if not inside.plain(function.get("VpcConfig", {})):
            continue
        role = template["Resources"].get(referred(function["Role"]), {})
        allowed = [
            action
            for statement in statements(inside.plain(role.get("Properties", {})))
            if statement["Effect"] == "Allow"
            for action in as_list(statement["Action"])
        ]
        if missing := OF_AN_INTERFACE - set(allowed):
            yield f"function {name} is in a VPC, and its role lacks {', '.join(sorted(missing))}"


def referred(value: Any) -> str:
    """The logical id in a Ref or a GetAtt."""
    match value:
        case {"Ref": str(name)}:
            return name
        case {"Fn::GetAtt": [str(name), *_]}:
            return name
    return ""


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement within a resource."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        else:
            for part in value.values():
                yield from statements(part)
    elif isinstance(value, list):
        for part in value:
            yield from statements(part)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
