"""What holds of template.yaml beyond what cfn-lint looks at."""

import json
import re

import obstore
import pytest
from obstore.store import MemoryStore

import load_postgres.app
from load_postgres.database import VIEW_PARAMETERS
from local_aws.yaml_text import yaml_parse
from maintain import check_template
from maintain.sar.generate import generate
from process import unshown

RAW_PREFIX_INPUTS = check_template.ROOT / "tests/data/inputs/02-rawprefix-values.txt"


@pytest.fixture(scope="module")
def template():
    return yaml_parse(check_template.TEMPLATE.read_text())


def test_without_a_front_door_nothing_of_one_is_made(template):
    without = generate(template, {"FrontDoor": "NONE", "DomainName": "hooks.example.com"})
    kinds = {resource["Type"] for resource in without["Resources"].values()}
    doors = ("AWS::ElasticLoadBalancingV2::", "AWS::ApiGatewayV2::", "AWS::EC2::", "AWS::Route53::", "AWS::Certificate")
    assert [kind for kind in kinds if kind.startswith(doors)] == []
    assert without["Outputs"]["IngestFunctionArn"]["Value"] == {"Fn::GetAtt": ["IngestFunction", "Arn"]}


def test_every_role_has_the_boundary_that_a_company_demands(template):
    boundary = {"Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundaryArn"}, {"Ref": "AWS::NoValue"}]}
    roles = {name: one for name, one in template["Resources"].items() if one["Type"] == "AWS::IAM::Role"}
    assert len(roles) >= 9
    assert {name: role["Properties"]["PermissionsBoundary"] for name, role in roles.items()} == dict.fromkeys(
        roles, boundary
    )


def test_one_stack_name_in_two_regions_is_two_dashboards(template):
    # dashboards are of all regions of an account
    name = template["Resources"]["Dashboard"]["Properties"]["DashboardName"]
    assert name == {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}


def test_no_circular_dependency_after_the_sam_transform():
    assert list(check_template.cycles(check_template.transformed_template())) == []


def test_a_circular_dependency_is_found():
    looped = {"Resources": {"A": {"X": {"Ref": "B"}}, "B": {"X": {"Fn::Sub": "${A.Arn}"}}}}
    assert list(check_template.cycles(looped)) == ["circular dependency: A -> B -> A"]


def test_every_parameter_is_described_bounded_and_has_a_default(template):
    assert list(check_template.parameter_findings(template)) == []


def test_sar_takes_all_but_the_load_balancer(template):
    assert list(check_template.sar_findings(template)) == []


def test_name_of_the_database_is_lower_case_whatever_the_stack_is_called(template):
    """Glue folds it to lower case; the ARNs of ReportRole and the schema of the views would keep capital letters."""
    properties = template["Resources"]["GlueDatabase"]["Properties"]
    guid = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}
    first_of_the_guid = {"Fn::Select": [0, {"Fn::Split": ["-", guid]}]}
    assert properties["DatabaseName"] == {"Fn::Join": ["_", ["bird", first_of_the_guid]]}
    assert properties["DatabaseInput"]["Name"] == properties["DatabaseName"]


def test_report_may_look_up_the_database_default(template):
    """Athena may ask for it in the name of who asks it, whatever database the query is about."""
    [statement] = [
        statement
        for policy in policies(template["Resources"]["ReportRole"])
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Sid"] == "ReadDefinitions"
    ]
    assert [arn["Fn::Sub"].rpartition(":")[2] for arn in statement["Resource"]] == [
        "catalog",
        "database/${GlueDatabase}",
        "database/default",
        "table/${GlueDatabase}/events*",
        "table/${GlueDatabase}/completeness",
        "table/${GlueDatabase}/verdicts",
        "table/${GlueDatabase}/mail_events",
        "table/${GlueDatabase}/bounce_classes",
    ]


def test_template_has_no_control_character(template):
    """Whatever refuses a NUL (a parser of CloudFormation's, SAR's, Glue's) would refuse the whole template."""
    text = json.dumps(template, ensure_ascii=False)
    assert sorted({character for character in text if ord(character) < 32}) == []
    csv = template["Resources"]["EventsTable"]["Properties"]["TableInput"]["StorageDescriptor"]["SerdeInfo"]["Fn::If"][
        1
    ]
    assert csv["Parameters"]["escapeChar"] == "\ue000"


def test_every_function_has_its_log_group_and_role(template):
    functions = [r for r in template["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    assert len(functions) == 13
    for function in functions:
        assert function["Properties"]["LoggingConfig"]["LogFormat"] == "JSON"
        assert "Ref" in function["Properties"]["LoggingConfig"]["LogGroup"]
        assert "Role" in function["Properties"]


OF_A_VPC = [
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
]


def policies(role) -> list:
    """The policies of a role, those that are there by condition among them."""
    return [policy["Fn::If"][1] if "Fn::If" in policy else policy for policy in role["Properties"]["Policies"]]


def test_rights_in_a_vpc_are_there_only_with_a_vpc(template):
    given = [
        p for r in template["Resources"].values() if r["Type"] == "AWS::IAM::Role" for p in r["Properties"]["Policies"]
    ]
    conditional = {policy["Fn::If"][0]: policy["Fn::If"][1:] for policy in given if "Fn::If" in policy}
    networks = {name for name, (policy, _) in conditional.items() if OF_A_VPC[0] in str(policy)}
    assert networks == {"FunctionsInVpc", "LoadPostgresInVpc"}
    assert [conditional[name][1] for name in networks] == [{"Ref": "AWS::NoValue"}] * 2
    assert [p["PolicyName"] for p in given if "Fn::If" not in p and OF_A_VPC[0] in str(p)] == []


def test_the_loaders_own_code_may_not_touch_network_interfaces(template):
    """Only calls that Lambda itself makes for the function carry no lambda:SourceFunctionArn."""
    network = policies(template["Resources"]["LoadPostgresRole"])[-1]
    allowed, denied = network["PolicyDocument"]["Statement"]
    assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
    assert allowed["Action"] == denied["Action"] == OF_A_VPC
    assert denied["Condition"]["ArnLike"].keys() == {"lambda:SourceFunctionArn"}


def test_every_statement_says_why_and_names_each_action_and_resource(template):
    """A role's statements have a comment or a Sid that explains them; no wildcard allows unconsidered actions."""
    checked = 0
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        assert "ManagedPolicyArns" not in resource["Properties"], name
        for policy in policies(resource):
            for statement in policy["PolicyDocument"]["Statement"]:
                checked += 1
                assert re.fullmatch(r"([A-Z][a-z]+){2,}", statement["Sid"]), name  # a verb and what it is done to
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                assert [action for action in actions if "*" in action or not re.match(r"[a-z0-9]+:[A-Z]", action)] == []
                # What EC2 and CloudWatch describe has no narrower resource, nor have interfaces that are not made yet.
                unbounded = ["ec2:DescribeSecurityGroupRules", "cloudwatch:GetMetricStatistics", *OF_A_VPC]
                assert statement["Resource"] != "*" or set(actions) <= set(unbounded), name
                assert statement["Effect"] == "Allow" or statement["Sid"] == "DenyNetworkToOurCode"
    assert checked >= 9


def test_statements_that_allow_more_than_logs_have_their_reason_beside_them():
    text = check_template.TEMPLATE.read_text()
    roles = [
        part for part in re.split(r"^(?=  [A-Za-z]+:\n)", text, flags=re.MULTILINE) if "Type: AWS::IAM::Role" in part
    ]
    for role in roles:
        for line in re.findall(r"^ +- Sid: .*$", role, re.MULTILINE):
            if "WriteLogs" not in line:
                assert " # " in line, line


def test_every_function_may_write_to_its_own_log_group_and_no_other(template):
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            group = resource["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
            role = template["Resources"][resource["Properties"]["Role"]["Fn::GetAtt"][0]]
            statements = [s for policy in policies(role) for s in policy["PolicyDocument"]["Statement"]]
            logs = [s for s in statements if "logs:" in str(s["Action"])]
            assert [s["Resource"] for s in logs] == [{"Fn::GetAtt": [group, "Arn"]}]
            assert [s["Action"] for s in logs] == [["logs:CreateLogStream", "logs:PutLogEvents"]]


def test_what_reviewers_tools_are_told_to_skip_has_its_reason(template):
    text = check_template.TEMPLATE.read_text().splitlines()
    for resource in template["Resources"].values():
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
            assert len(skip["comment"]) > 10
    for number, line in enumerate(text):
        if "ignore_checks:" in line:
            above = " ".join(text[max(0, number - 3) : number])
            rules = re.findall(r"[A-Z]{1,2}\d{4}", line)
            assert rules
            assert [rule for rule in rules if f"{rule} " not in above] == []
    for name in (".checkov.yaml", ".cfnlintrc"):  # for every resource of a kind
        reasons, listed = [], []
        for line in (check_template.ROOT / name).read_text().splitlines():
            if line.strip().startswith("#"):
                reasons.append(line)
            elif found := re.fullmatch(r"  - (\w+)", line):
                listed.append(found[1])
        assert listed
        assert [rule for rule in listed if not re.search(rf"\b{rule}\b", " ".join(reasons))] == []


def test_nobody_gets_in_by_default_without_credentials(template):
    parameters, conditions = template["Parameters"], template["Conditions"]
    assert parameters["WebhookAuth"]["Default"] == "BASIC"
    environment = template["Resources"]["IngestFunction"]["Properties"]["Environment"]["Variables"]
    assert environment["WEBHOOK_AUTH"] == {"Ref": "WebhookAuth"}
    # No other way leads past the load balancer's token check.
    [assertion] = template["Rules"]["OAuth2NeedsAlbAndIssuer"]["Assertions"]
    assert {"Fn::Equals": [{"Ref": "FrontDoor"}, "ALB"]} in assertion["Assert"]["Fn::And"]
    invokers = [r for r in template["Resources"].values() if r["Type"] == "AWS::Lambda::Permission"]
    assert [(r["Condition"], r["Properties"]["Principal"]) for r in invokers] == [
        ("UseAlb", "elasticloadbalancing.amazonaws.com"),
        ("UseHttpApi", "apigateway.amazonaws.com"),
        ("DropOldMonths", "events.amazonaws.com"),
        ("UseReconcile", "events.amazonaws.com"),
    ]
    assert [invoker["Properties"]["FunctionName"] for invoker in invokers[2:]] == [
        {"Ref": "LoadPostgresFunction"},
        {"Ref": "ReconcileFunction"},
    ]
    assert conditions["UseHttpApi"] == {"Fn::Equals": [{"Ref": "FrontDoor"}, "HTTP_API"]}
    assert "AWS::Lambda::Url" not in {r["Type"] for r in template["Resources"].values()}


def test_a_failed_comparison_with_bird_is_not_repeated_beside_the_next_one(template):
    assert template["Resources"]["ReconcileInvokeConfig"] == {
        "Type": "AWS::Lambda::EventInvokeConfig",
        "Condition": "UseReconcile",
        "Properties": {
            "FunctionName": {"Ref": "ReconcileFunction"},
            "Qualifier": "$LATEST",
            "MaximumRetryAttempts": 0,
            "MaximumEventAgeInSeconds": 60,
        },
    }
    assert template["Resources"]["ReconcileErrorsAlarm"]["Properties"]["Threshold"] == 4  # runs of an hour


def test_the_token_check_comes_before_ingest_and_can_ask_for_a_claim(template):
    with_token, without = template["Resources"]["WebhookListenerRule"]["Properties"]["Actions"]["Fn::If"][1:]
    assert [(action["Type"], action["Order"]) for action in with_token] == [("jwt-validation", 1), ("forward", 2)]
    assert [action["Type"] for action in without] == ["forward"]
    assert "AdditionalClaims" in with_token[0]["JwtValidationConfig"]


def test_oauth2_believes_the_stacks_own_load_balancer(template):
    """What ingest compares with is the start of the ARN that the target group of this stack has."""
    name = template["Resources"]["IngestTargetGroup"]["Properties"]["Name"]
    variables = template["Resources"]["IngestFunction"]["Properties"]["Environment"]["Variables"]
    start = "arn:${AWS::Partition}:elasticloadbalancing:${AWS::Region}:${AWS::AccountId}:targetgroup/${Name}/"
    told = {"Fn::Sub": [start, {"Name": name}]}
    assert variables["TARGET_GROUP"] == {"Fn::If": ["UseAlbJwt", told, {"Ref": "AWS::NoValue"}]}


def test_what_only_looks_reaches_ingest_by_no_load_balancer(template):
    """GET and HEAD are answered by the load balancer as ingest would; any other method by ingest, with Allow."""
    rules = {
        rule["Properties"]["Priority"]: (
            [c["HttpRequestMethodConfig"]["Values"] for c in rule["Properties"]["Conditions"][1:]],
            rule["Properties"]["Actions"],
        )
        for rule in template["Resources"].values()
        if rule["Type"] == "AWS::ElasticLoadBalancingV2::ListenerRule"
    }
    assert {priority: methods for priority, (methods, _) in rules.items()} == {
        1: [["POST"]],
        2: [["GET", "HEAD"]],
        3: [],
    }
    [health] = rules[2][1]
    assert health["FixedResponseConfig"] == {
        "StatusCode": "200",
        "ContentType": "application/json",
        "MessageBody": '{"status":"ok"}',
    }
    assert rules[3][1] == rules[1][1]  # also OAUTH2's token check: to a load balancer `post` is not POST


def chosen(value, parameters, stack_id):
    """A value of the template, with these parameters and that stack id."""
    match value:
        case {"Fn::If": ["HasWebhookPath", yes, no]}:
            return chosen(yes if parameters["WebhookPath"] else no, parameters, stack_id)
        case {"Fn::Join": [separator, parts]}:
            parts = parts if isinstance(parts, list) else chosen(parts, parameters, stack_id)
            return separator.join(chosen(part, parameters, stack_id) for part in parts)
        case {"Fn::Select": [index, listed]}:
            return chosen(listed, parameters, stack_id)[index]
        case {"Fn::Split": [separator, text]}:
            return chosen(text, parameters, stack_id).split(separator)
        case {"Fn::Sub": [text, {"Bucket": bucket}]}:
            return text.replace("${Bucket}", chosen(bucket, parameters, stack_id))
        case {"Fn::Sub": text}:
            return text.replace("${RawPrefix}", parameters["RawPrefix"])
        case {"Ref": "AWS::StackId"}:
            return stack_id
        case {"Ref": name}:
            return parameters[name]
    return value


STACK_ID = "arn:aws:cloudformation:eu-west-1:111122223333:stack/bird/8d3e0f50-8f0b-11ec-b7ab-0a7d1a2b3c4d"
PATHS = [
    pytest.param("", "/bird/8d3e0f50-8f0b-11ec-b7ab-0a7d1a2b3c4d", id="default, or what a reset of parameters leaves"),
    pytest.param("/bird", "/bird", id="stored by a stack of version 0.2.0, or explicit"),
    pytest.param("/", "/", id="that of the guide's webhook"),
]


@pytest.mark.parametrize(("given", "path"), PATHS)
def test_the_path_has_a_part_that_strangers_do_not_know_unless_one_is_named(template, given, path):
    assert chosen(template["Outputs"]["WebhookPath"]["Value"], {"WebhookPath": given}, STACK_ID) == path
    assert re.search(template["Parameters"]["WebhookPath"]["AllowedPattern"], path)
    [by_path, _] = template["Resources"]["WebhookListenerRule"]["Properties"]["Conditions"]
    route = template["Resources"]["HttpApiRoute"]["Properties"]["RouteKey"]
    [pattern] = by_path["PathPatternConfig"]["Values"]
    assert chosen(pattern, {"WebhookPath": given}, STACK_ID) == path
    assert chosen(route, {"WebhookPath": given}, STACK_ID) == f"ANY {path}"
    assert template["Parameters"]["WebhookPath"]["Default"] == ""


@pytest.mark.parametrize("path", ["//", "/bird/", "bird", "/bird?x", "/*", "/bird*", "/a b"])
def test_a_path_that_could_match_more_than_itself_is_refused(template, path):
    for parameter in (
        template["Parameters"]["WebhookPath"],
        yaml_parse(check_template.ALB_TEMPLATE.read_text())["Parameters"]["WebhookPath"],
    ):
        assert re.search(parameter["AllowedPattern"], path) is None
        assert re.search(parameter["AllowedPattern"], "/")


def test_nothing_names_the_path_but_by_its_one_definition(template):
    """`${WebhookPath}` is empty by default."""
    text = json.dumps(template["Resources"]) + json.dumps(template["Outputs"])
    assert "${WebhookPath}" not in text


RAW_PREFIXES = [
    *(pytest.param(text, False, id=text) for text in RAW_PREFIX_INPUTS.read_text().splitlines()),
    *(pytest.param(text, False, id=text) for text in ("a/..", "../a", "a//b", "/a", "a/", "a\tb", "a", "a*")),
    *(
        pytest.param(text, True, id=text)
        for text in ("raw", "B Event Data", "a/b", "a.b/..c/d..", "..a", "a/.b", "(x)'!")
    ),
]


@pytest.mark.parametrize(("given", "legal"), RAW_PREFIXES)
def test_a_prefix_that_s3s_library_would_refuse_is_refused_at_once(template, given, legal):
    assert bool(re.search(template["Parameters"]["RawPrefix"]["AllowedPattern"], given)) is legal
    if legal:
        obstore.put(MemoryStore(), f"{given}/one.json", b"")


FORMER_PLACES = [
    *(pytest.param(text, True, id=text) for text in ("", "old/raw", "old/r,old/x", "old-bucket/B Event,b.c/(x)'!/y")),
    *(
        pytest.param(text, False, id=text)
        for text in (
            "old",
            "old/",
            "old/raw/",
            "old//raw",
            "old/raw/,b.c/raw",
            "old/raw,b.c/raw/",
            "old/raw*",
            "*/raw",
            "old/raw, b.c/raw",
        )
    ),
]


@pytest.mark.parametrize(("given", "legal"), FORMER_PLACES)
def test_a_former_place_is_a_bucket_and_a_folder(template, given, legal):
    """With a slash at its end a policy would name keys of no batch, and with * those of other folders."""
    assert bool(re.search(template["Parameters"]["FormerRawPlaces"]["AllowedPattern"], given)) is legal


@pytest.mark.parametrize(
    ("given", "buckets"),
    [
        ("old/raw", {"old"}),
        ("old/raw,old/bird,b.c/x/y", {"old", "b.c"}),
        (",".join(f"old-{n}/raw" for n in range(10)), {f"old-{n}" for n in range(10)}),
    ],
)
def test_the_stack_may_take_its_entries_out_of_each_former_bucket(template, given, buckets):
    policies = [each.get("Fn::If", [])[:2] for each in template["Resources"]["StorageRole"]["Properties"]["Policies"]]
    [policy] = [one for condition, one in filter(None, policies) if condition == "HasFormerRawPlaces"]
    [statement] = policy["PolicyDocument"]["Statement"]
    arns = {chosen(one, {"FormerRawPlaces": given}, "") for one in statement["Resource"]}
    assert arns == {f"arn:${{AWS::Partition}}:s3:::{bucket}" for bucket in buckets}


def test_a_batch_that_is_gone_from_a_former_bucket_is_told_from_one_that_may_not_be_read(template):
    """Without s3:ListBucket S3 answers 403 for both, and an erased batch would end as a dead letter."""
    statements = template["Resources"]["ReadsFormerRawBatches"]["Properties"]["PolicyDocument"]["Statement"]
    [listing] = [one for one in statements if one["Action"] == "s3:ListBucket"]
    assert listing["Resource"] == {"Fn::Split": [",", {"Fn::GetAtt": ["Storage", "FormerBucketArns"]}]}


def test_ingest_and_process_keep_their_rights_until_another_place_is_accepted(template):
    """An update that Storage refuses must not answer Bird 503, and one that it takes for no longer than it must."""
    for name in ("IngestRole", "IngestFunction", "ProcessRole", "ProcessFunction", "ImportRole", "ImportFunction"):
        depends = template["Resources"][name]["DependsOn"]
        assert "Storage" in ([depends] if isinstance(depends, str) else depends), name


def test_another_lake_bucket_registers_the_dates_there_once_it_is_accepted(template):
    """CloudFormation calls a custom resource again only if a property of it changes."""
    resources = template["Resources"]
    registered = resources["DatesRegistered"]["Properties"]
    assert registered["LakeBucket"] == resources["Storage"]["Properties"]["LakeBucket"]
    assert registered["ServiceToken"] == {"Fn::GetAtt": ["TableMaintenanceFunction", "Arn"]}


@pytest.mark.parametrize("name", ["TableMaintenance", "LoadPostgres", "PublishEvents"])
def test_an_update_whose_lake_bucket_is_refused_never_reaches_what_reads_it(template, name):
    """The hour would move all dates to the other bucket, and files of the old one would be refused, and forgotten."""
    for kind in ("Function", "Role"):
        depends = template["Resources"][name + kind]["DependsOn"]
        assert "Storage" in ([depends] if isinstance(depends, str) else depends), kind


@pytest.mark.parametrize(("prefix", "filtered"), [("raw", "raw/"), ("B Event Data", "B+Event+Data/")])
def test_notifications_are_filtered_in_s3s_encoding(template, prefix, filtered):
    raw = template["Resources"]["RawBucket"]["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    for one in raw:
        [rule] = one["Filter"]["S3Key"]["Rules"]
        assert (rule["Name"], chosen(rule["Value"], {"RawPrefix": prefix}, "")) == ("prefix", filtered)


def holds(expression, parameters) -> bool:
    match expression:
        case {"Fn::And": parts}:
            return all(holds(part, parameters) for part in parts)
        case {"Fn::Or": parts}:
            return any(holds(part, parameters) for part in parts)
        case {"Fn::Not": [part]}:
            return not holds(part, parameters)
        case {"Fn::Equals": [{"Ref": name}, value]}:
            return parameters[name] == value
        case {"Fn::Contains": [{"Ref": name}, value]}:
            return value in parameters[name].split(",")
    raise AssertionError(expression)


ALB_NEEDS_NAME = "FrontDoor ALB needs DomainName"
OAUTH2_NEEDS_ALB = "WebhookAuth OAUTH2 needs FrontDoor ALB, JwtIssuer and JwksEndpoint"
ISSUER = {"JwtIssuer": "https://issuer.example.com/", "JwksEndpoint": "https://issuer.example.com/jwks.json"}
OAUTH2 = {"WebhookAuth": "OAUTH2", "DomainName": "a.example.com", "CertificateArn": "arn"}
DEPLOYMENTS = [
    pytest.param({"DomainName": "a.example.com", "HostedZoneId": "Z1"}, None, id="name and zone"),
    pytest.param({"DomainName": "a.example.com", "CertificateArn": "arn"}, None, id="name and certificate"),
    pytest.param({}, ALB_NEEDS_NAME, id="nothing"),
    pytest.param({"CertificateArn": "arn"}, ALB_NEEDS_NAME, id="certificate that fits no name of the load balancer"),
    pytest.param({"FrontDoor": "HTTP_API"}, None, id="HTTP API"),
    pytest.param({"FrontDoor": "HTTP_API", "VpcId": "vpc-1"}, "VpcId needs SubnetIds", id="VPC without subnets"),
    pytest.param({"FrontDoor": "HTTP_API", "VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"}, None, id="VPC"),
    pytest.param({"FrontDoor": "NONE", "DomainName": "a.example.com"}, None, id="own load balancer"),
    pytest.param({"FrontDoor": "NONE"}, "FrontDoor NONE needs DomainName", id="own load balancer without a name"),
    pytest.param(OAUTH2 | ISSUER, None, id="OAuth2"),
    pytest.param(OAUTH2 | ISSUER | {"FrontDoor": "HTTP_API"}, OAUTH2_NEEDS_ALB, id="OAuth2 without a load balancer"),
    pytest.param(OAUTH2, OAUTH2_NEEDS_ALB, id="OAuth2 without an issuer"),
]


@pytest.mark.parametrize(("given", "refused"), DEPLOYMENTS)
def test_what_would_fail_late_is_refused_at_once(template, given, refused):
    parameters = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()} | given
    said = [
        assertion["AssertDescription"]
        for rule in template["Rules"].values()
        if "RuleCondition" not in rule or holds(rule["RuleCondition"], parameters)
        for assertion in rule["Assertions"]
        if not holds(assertion["Assert"], parameters)
    ]
    assert [text[: len(refused or "")] for text in said] == ([refused] if refused else [])


def test_the_access_log_of_the_api_tells_refusals_apart_and_holds_no_address(template):
    stage = template["Resources"]["HttpApiStage"]["Properties"]
    logged = json.loads(stage["AccessLogSettings"]["Format"])
    assert set(logged.values()) == {
        "$context.requestId",
        "$context.requestTimeEpoch",
        "$context.apiId",
        "$context.routeKey",
        "$context.status",
        "$context.error.responseType",
    }
    counted = template["Resources"]["HttpApiRefusals"]["Properties"]
    assert re.findall(r'\$\.(\w+) = "(\d+)"', counted["FilterPattern"]) == [
        ("status", "403"),
        ("status", "413"),
        ("status", "429"),
    ]
    [metric] = counted["MetricTransformations"]
    assert metric["Dimensions"] == [{"Key": "ApiId", "Value": "$.apiId"}]
    assert "apiId" in logged


def test_the_name_moves_when_the_new_front_door_answers(template):
    waited_for = re.findall(r"\$\{(\w+)\}", json.dumps(template["Resources"]["AddressRecord"]["Properties"]["Comment"]))
    assert waited_for == ["WebhookListenerRule", "HttpApiDomainMapping", "HttpApiRoute", "HttpApiPermission"]


CIDRS = [
    pytest.param("0.0.0.0/0", True, id="default"),
    pytest.param("192.0.2.0/24,198.51.100.7/32", True, id="two"),
    pytest.param("1.1.1.1/32,2.2.2.2/32,3.3.3.3/32,4.4.4.4/32,5.5.5.5/32", True, id="five"),
    pytest.param("1.1.1.1/32,2.2.2.2/32,3.3.3.3/32,4.4.4.4/32,5.5.5.5/32,6.6.6.6/32", False, id="six"),
    pytest.param("192.0.2.0/24, 198.51.100.7/32", False, id="space"),
    pytest.param("192.0.2.0/24,", False, id="comma at the end"),
    pytest.param("", False, id="nothing"),
]


@pytest.mark.parametrize(("given", "legal"), CIDRS)
def test_senders_are_one_to_five_ranges(template, given, legal):
    assert bool(re.search(template["Parameters"]["SenderCidrs"]["AllowedPattern"], given)) is legal


def test_bird_is_told_when_nothing_else_is_likely_to_fail(template):
    """For a rollback cannot give an adopted webhook its old credentials back."""
    resources = template["Resources"]
    before, waiting = set(), {"BirdWebhook"}
    while waiting:
        before |= waiting
        named = [resources[name].get("DependsOn", []) for name in waiting]
        depends = {name for names in named for name in ([names] if isinstance(names, str) else names)}
        waiting = depends.union(*(check_template.references(resources[name]) for name in waiting))
        waiting = waiting & resources.keys() - before
    services = ("Serverless", "CloudWatch", "Glue", "EC2", "ElasticLoadBalancingV2", "Route53")
    late = {name for name in resources.keys() - before if resources[name]["Type"].split("::")[1] in services}
    assert {name for name in late if not name.endswith("View")} == set()
    assert [resources[name]["Type"] for name in resources.keys() - before].count("AWS::S3::Bucket") == 0


def test_bird_tries_the_webhook_only_when_whatever_answers_it_is_there(template):
    """By reference, not DependsOn: of the two front doors only one is there. Ingest has the credentials before Bird."""
    webhook = template["Resources"]["BirdWebhook"]
    waited_for = set(re.findall(r'"Ref": "(\w+)"', json.dumps(webhook["Properties"]["WaitsFor"]))) - {"AWS::NoValue"}
    assert waited_for == {
        "IngestFunction",
        "ImportFunction",
        "Dashboard",
        "ListExportView",
        "VerdictsTable",
        "LoadPostgresFunction",
        "WebhookListenerRule",
        "HealthCheckListenerRule",
        "OtherMethodsListenerRule",
        "AddressRecord",
        "InternetRoute",
        "FirstSubnetRoutes",
        "SecondSubnetRoutes",
        "HttpApiRoute",
        "HttpApiStage",
        "HttpApiPermission",
        "HttpApiDomainMapping",
    }
    assert webhook["Properties"]["CredentialDigests"] == {"Fn::GetAtt": ["WebhookCredentials", "Digests"]}
    assert webhook["Properties"]["CredentialsVersion"] == {"Ref": "CredentialsVersion"}
    settings = webhook["Properties"]["Settings"]
    assert settings["WEBHOOK_URL"] == template["Outputs"]["WebhookUrl"]["Value"]
    # CloudFormation waits longer than the function lives.
    function = template["Resources"]["BirdWebhookFunction"]["Properties"]
    assert webhook["Properties"]["ServiceTimeout"] > function["Timeout"] == 600
    # What the function uses is what brings an update to it.
    assert function["Environment"]["Variables"] == settings
    assert settings["STACK_ID"] == {"Ref": "AWS::StackId"}


def test_cloudformation_waits_longer_than_the_function_of_a_custom_resource_lives(template):
    """And each function lives longer than it waits for IAM, with time left for the answer."""
    custom = [r for r in template["Resources"].values() if r["Type"] == "AWS::CloudFormation::CustomResource"]
    assert len(custom) == 7
    for resource in custom:
        function = template["Resources"][resource["Properties"]["ServiceToken"]["Fn::GetAtt"][0]]["Properties"]
        assert resource["Properties"]["ServiceTimeout"] > function["Timeout"] >= 90


BIRD_API_URLS = [
    pytest.param("", True, id="default"),
    pytest.param("https://bird-proxy.example.com/api/v1", True, id="proxy"),
    pytest.param("http://127.0.0.1:8080/api/v1", True, id="this machine"),
    pytest.param("http://bird-proxy.example.com/api/v1", False, id="plain"),
    pytest.param("http://127.0.0.1.example.com/api/v1", False, id="plain, in disguise"),
    pytest.param("http://127.0.0.1:8080@example.com/", False, id="plain, in another"),
    pytest.param("https://user:password@example.com/", False, id="with a password"),
]


@pytest.mark.parametrize(("given", "legal"), BIRD_API_URLS)
def test_the_api_key_goes_nowhere_in_the_clear(template, given, legal):
    assert bool(re.search(template["Parameters"]["BirdApiUrl"]["AllowedPattern"], given)) is legal


def test_without_an_api_key_there_is_the_form_and_nothing_that_registers(template):
    resources, outputs = template["Resources"], template["Outputs"]
    assert template["Parameters"]["BirdApiKeySecretArn"]["Default"] == ""
    assert {name for name, resource in resources.items() if resource.get("Condition") == "RegisterWebhook"} == {
        "BirdWebhook",
        "BirdWebhookFunction",
        "BirdWebhookRole",
        "BirdWebhookLogGroup",
    }
    assert outputs["BirdForm"]["Condition"] == "TypeIntoForm"
    form = json.dumps(outputs["BirdForm"]["Value"])
    assert "`username` and `password` in secret ${WebhookSecret.Id}" in form
    assert "resolve:" not in form  # no dynamic reference: the output holds no secret


def test_looked_up_senders_leave_no_moment_without_ingress(template):
    """The load balancer takes the group's id from the resource that fills the group."""
    [group] = template["Resources"]["LoadBalancer"]["Properties"]["SecurityGroups"]
    assert group["Fn::If"][:2] == ["LookUpSenders", {"Fn::GetAtt": ["SenderAddresses", "SecurityGroupId"]}]
    assert "SecurityGroupIngress" not in template["Resources"]["LookedUpSendersSecurityGroup"]["Properties"]


def test_buckets_outlive_the_stack(template):
    buckets = [r for r in template["Resources"].values() if r["Type"] == "AWS::S3::Bucket"]
    # Except on create: a second attempt after a failed first deployment finds the bucket's name free.
    kept = ("RetainExceptOnCreate", "Retain")
    assert [(b["DeletionPolicy"], b["UpdateReplacePolicy"]) for b in buckets] == [kept] * 2


def test_the_webhooks_secret_is_never_generated_anew(template):
    """CloudFormation makes a new password whenever one of these members changes, and another one if it rolls back."""
    assert template["Resources"]["WebhookSecret"]["Properties"]["GenerateSecretString"] == {
        "SecretStringTemplate": '{"username": "bird"}',
        "GenerateStringKey": "password",
        "PasswordLength": 43,
        "ExcludePunctuation": True,
    }


def test_what_a_rotation_accepts_hangs_on_no_parameter(template):
    """A deployment with parameters of its own, in the middle of a rotation, must compute the same digests."""
    properties = template["Resources"]["WebhookCredentials"]["Properties"]
    assert properties.keys() == {
        *("ServiceToken", "ServiceTimeout", "SecretArn", "WebhookAuth", "CredentialsVersion"),
        "KmsKeyArn",  # named in a refusal's reason, and no part of the digests
    }
    source = (check_template.ROOT / "functions/webhook_credentials/app.py").read_text()
    assert 'CredentialsVersion"' not in source  # that it changes is all it is for


def test_queue_waits_longer_than_six_times_the_function(template):
    resources = template["Resources"]
    assert resources["ProcessQueue"]["Properties"]["VisibilityTimeout"] >= 6 * 120 + 20
    assert resources["ProcessFunction"]["Properties"]["Timeout"] == 120


def test_a_database_that_is_away_does_not_use_up_the_tries_of_a_message(template):
    queue, function = (template["Resources"][name]["Properties"] for name in ("PostgresQueue", "LoadPostgresFunction"))
    fourteen_days = queue["MessageRetentionPeriod"]
    assert fourteen_days == 14 * 86_400 > load_postgres.app.GIVE_UP_AFTER_SECONDS
    ramp = 6  # tries with shorter waits
    tries = load_postgres.app.GIVE_UP_AFTER_SECONDS / load_postgres.app.LONGEST_WAIT_SECONDS + ramp
    assert tries < queue["RedrivePolicy"]["maxReceiveCount"]
    # Code that does not run at all: a try each VisibilityTimeout. A day less than the queue keeps a message.
    assert queue["RedrivePolicy"]["maxReceiveCount"] * queue["VisibilityTimeout"] <= fourteen_days - 86_400
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert function["Timeout"] * 1000 > 2 * load_postgres.app.MILLISECONDS_FOR_A_FILE
    # One request postpones ten messages.
    assert function["Events"]["RowsWritten"]["Properties"]["BatchSize"] == 10


def test_postgresql_is_reached_over_tls_whatever_is_set(template):
    assert template["Parameters"]["PostgresTls"]["Default"] == "VERIFY_FULL"
    assert template["Parameters"]["PostgresTls"]["AllowedValues"] == ["VERIFY_FULL", "REQUIRE"]
    assert template["Parameters"]["PostgresSecretArn"]["Default"] == ""


SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
ARNS = [
    pytest.param(SECRET_ARN + "marketing-db-AbCdEf", True, id="whole"),
    pytest.param(SECRET_ARN.replace("west", "central") + "marketing-db-AbCdEf", True, id="another region"),
    pytest.param(SECRET_ARN + "rds!db-1a2b-AbCdEf", True, id="managed by RDS"),
    pytest.param(SECRET_ARN + "marketing-db", False, id="without the six characters"),
    pytest.param(SECRET_ARN + "marketing-db-AbCdEf:password::", False, id="with a field"),
    pytest.param(SECRET_ARN + "marketing db-AbCdEf", False, id="blank"),
    pytest.param("", True, id="off"),
]


@pytest.mark.parametrize(("arn", "taken"), ARNS)
def test_arn_of_postgresqls_secret_is_one_that_the_roles_right_can_match(template, arn, taken):
    assert bool(re.fullmatch(template["Parameters"]["PostgresSecretArn"]["AllowedPattern"], arn)) is taken


TYPES = [
    pytest.param("bounce, spam_complaint", True, id="blank after a comma"),
    pytest.param("bounce", True, id="one"),
    pytest.param("Bounce", False, id="upper case"),
    pytest.param("bounce;spam_complaint", False, id="semicolon"),
    pytest.param("", False, id="none"),
    pytest.param("bounce,", False, id="comma at the end"),
]


@pytest.mark.parametrize(("types", "taken"), TYPES)
def test_published_types_are_names_with_commas_between_them(template, types, taken):
    assert bool(re.fullmatch(template["Parameters"]["PublishedEventTypes"]["AllowedPattern"], types)) is taken


def test_outputs_of_the_contract(template):
    assert {
        "WebhookUrl",
        "RawBucketName",
        "LakeBucketName",
        "WebhookSecretArn",
        "GlueDatabaseName",
        "AthenaWorkGroupName",
        "ProcessQueueUrl",
        "ProcessDeadLetterQueueUrl",
        "DashboardUrl",
    } <= template["Outputs"].keys()


def test_security_groups_are_described_in_ec2s_characters(template):
    """cfn-lint does not look into the branches of an Fn::If; EC2 refuses an apostrophe."""
    groups = [r["Properties"] for r in template["Resources"].values() if r["Type"] == "AWS::EC2::SecurityGroup"]
    texts = re.findall(r'"(?:Group)?Description": "([^"]*)"', json.dumps(groups))
    assert len(texts) == 12
    assert [text for text in texts if not re.fullmatch(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}", text)] == []


def test_the_key_of_hashes_is_for_process_alone_and_outlives_the_stack(template):
    resources = template["Resources"]
    key, policy = resources["HashKey"], resources["ProcessReadsHashKey"]
    assert (key["DeletionPolicy"], key["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert key["Properties"]["GenerateSecretString"]["PasswordLength"] == 43
    assert (key["Condition"], policy["Condition"]) == ("MakeHashKey", "HashSomeFields")
    assert policy["Properties"]["Roles"] == [{"Ref": "ProcessRole"}, {"Ref": "ImportRole"}]
    [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    one_of = {"Fn::If": ["HasHashKey", {"Ref": "ExistingHashKeyArn"}, {"Fn::GetAtt": ["HashKey", "Id"]}]}
    assert (statement["Action"], statement["Resource"]) == ("secretsmanager:GetSecretValue", one_of)


def test_the_key_of_tombstones_is_read_by_what_brings_events_in_and_outlives_the_stack(template):
    key = template["Resources"]["TombstoneKey"]
    assert (key["DeletionPolicy"], key["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert key["Properties"]["GenerateSecretString"]["PasswordLength"] == 43
    assert key["Condition"] == "MakeTombstoneKey"
    others = {name for name, one in template["Resources"].items() if "TombstoneKey" in json.dumps(one)} - {
        "TombstoneKey"
    }
    # The last two take its ARN, and read no secret.
    assert others == {"ReconcileFunction", "ReconcileRole", "SettingsGuard", "Storage"}


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("erased/0123", None),
        (unshown.SINCE, None),
        (unshown.FIELDS, None),
        (unshown.of_process("2026-11-24", "0"), "ExpireUnshown"),
        (unshown.of_closing("2026-11-24", "0001-0", "0"), "ExpireUnshownOfDates"),
        ("maintenance/put-back/2026-11-24T00:00:00Z/raw/a.json", "ExpirePutBack"),
    ],
)
def test_what_erase_goes_by_lasts_as_long_as_what_it_tells_of(template, key, rule):
    rules = template["Resources"]["LakeBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    conditional = {one["Fn::If"][1]["Id"]: one["Fn::If"] for one in rules if "Fn::If" in one}
    always = [one for one in rules if "Fn::If" not in one]
    expiring = [one for one in [*always, *(one[1] for one in conditional.values())] if "ExpirationInDays" in one]
    assert [one["Id"] for one in expiring if key.startswith(one["Prefix"])] == [rule] * bool(rule)
    if rule:
        assert conditional[rule][0] == "RawBatchesExpire"
        assert conditional[rule][1]["ExpirationInDays"] == {"Ref": "RawRetentionDays"}


def test_what_the_erasing_tool_puts_back_is_not_announced(template):
    """It writes by CompleteMultipartUpload; everything else that makes a raw batch has to be announced."""
    raw = template["Resources"]["RawBucket"]["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert [one["Event"] for one in raw] == ["s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy"]
    rows = template["Resources"]["LakeBucket"]["Properties"]["NotificationConfiguration"]["TopicConfigurations"]
    announced = [(one["Event"], one["Filter"]["S3Key"]["Rules"][0]["Value"]) for one in rows]
    assert announced == [
        ("s3:ObjectCreated:Put", "events/"),
        ("s3:ObjectCreated:Copy", "events/"),
        ("s3:ObjectCreated:Put", "events-csv/"),
        ("s3:ObjectCreated:Copy", "events-csv/"),
    ]


def test_announcements_that_a_queue_refuses_are_kept(template):
    resources = template["Resources"]
    subscriptions = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::SNS::Subscription"]
    rows = [subscription for subscription in subscriptions if subscription["TopicArn"] == {"Ref": "RowsTopic"}]
    assert len(rows) == 2
    for subscription in rows:
        dead = subscription["RedrivePolicy"]["deadLetterTargetArn"]
        [policy] = [
            r["Properties"]
            for r in resources.values()
            if r["Type"] == "AWS::SQS::QueuePolicy" and {"Ref": dead["Fn::GetAtt"][0]} in r["Properties"]["Queues"]
        ]
        [announce] = [s for s in policy["PolicyDocument"]["Statement"] if s["Sid"] == "AnnounceRows"]
        assert announce["Resource"] == [subscription["Endpoint"], dead]


def test_the_rule_of_soft_bounces_is_the_same_without_the_template(template):
    defaults = {name: str(template["Parameters"][name]["Default"]) for name in VIEW_PARAMETERS}
    assert defaults == VIEW_PARAMETERS


ACCOUNT, USER = "arn:aws:iam::111122223333:root", "arn:aws:iam::444455556666:user/abc1-s-v2st5678"
SUBSCRIBERS = [
    pytest.param("", True, id="none"),
    pytest.param(ACCOUNT, True, id="account"),
    pytest.param(f"{USER},{ACCOUNT}", True, id="user and account"),
    pytest.param("arn:aws-us-gov:iam::111122223333:role/path/of/loader", True, id="role with a path"),
    pytest.param(f"{USER}, {ACCOUNT}", False, id="blank after the comma"),
    pytest.param(f"{USER},", False, id="comma at the end"),
    pytest.param("*", False, id="everybody"),
    pytest.param("arn:aws:iam::111122223333:user/*", False, id="all users"),
    pytest.param("arn:aws:iam::*:root", False, id="all accounts"),
    pytest.param("arn:aws:sns:eu-west-1:111122223333:topic", False, id="no principal"),
    pytest.param(",".join([ACCOUNT] * 10), True, id="ten"),
    pytest.param(",".join([ACCOUNT] * 11), False, id="eleven"),
]


@pytest.mark.parametrize(("arns", "taken"), SUBSCRIBERS)
def test_subscribers_are_accounts_users_or_roles_by_name(template, arns, taken):
    assert bool(re.fullmatch(template["Parameters"]["RowsTopicSubscribers"]["AllowedPattern"], arns)) is taken


def test_other_accounts_may_subscribe_their_queues_and_functions_and_nothing_else(template):
    for topic in ("RowsTopic", "ClosedDaysTopic"):
        statements = template["Resources"][f"{topic}Policy"]["Properties"]["PolicyDocument"]["Statement"]
        [granted] = [one["Fn::If"] for one in statements if "Fn::If" in one]
        assert granted == [
            "HasRowsTopicSubscribers",
            {
                "Sid": "SubscribeFromOtherAccounts",
                "Effect": "Allow",
                "Principal": {"AWS": {"Fn::Split": [",", {"Ref": "RowsTopicSubscribers"}]}},
                "Action": "sns:Subscribe",
                "Resource": {"Ref": topic},
                "Condition": {"StringEquals": {"sns:Protocol": ["sqs", "lambda"]}},
            },
            {"Ref": "AWS::NoValue"},
        ]
    named = {name for name, resource in template["Resources"].items() if "RowsTopicSubscribers" in json.dumps(resource)}
    assert named == {"RowsTopicPolicy", "ClosedDaysTopicPolicy"}, "a reset changes these two policies and nothing else"
