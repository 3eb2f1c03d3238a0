"""What holds of template.yaml beyond what cfn-lint looks at."""

import json
import re

import pytest
from samtranslator.yaml_helper import yaml_parse

import load_postgres.app
from load_postgres.database import VIEW_PARAMETERS
from tools import check_template
from tools.sync_columns import POSTGRES_COLUMNS, postgres_columns, synced


@pytest.fixture(scope="module")
def template():
    return yaml_parse(check_template.TEMPLATE.read_text())


def test_glue_columns_are_the_columns_of_process():
    text = check_template.TEMPLATE.read_text()
    assert synced(text) == text


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
        for policy in template["Resources"]["ReportRole"]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Sid"] == "ReadDefinitions"
    ]
    assert [arn["Fn::Sub"].rpartition(":")[2] for arn in statement["Resource"]] == [
        "catalog",
        "database/${GlueDatabase}",
        "database/default",
        "table/${GlueDatabase}/events*",
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
    assert len(functions) == 8
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
    [conditional] = [policy["Fn::If"] for policy in given if "Fn::If" in policy]
    assert [conditional[0], conditional[2]] == ["PostgresInVpc", {"Ref": "AWS::NoValue"}]
    assert [p["PolicyName"] for p in given if "Fn::If" not in p and OF_A_VPC[0] in str(p)] == []


def test_every_statement_says_why_and_names_each_action_and_resource(template):
    """A role's statements have a comment or a Sid that says it; no wildcard stands for actions nobody thought of."""
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
                # Only what EC2 describes has no narrower resource, and interfaces that Lambda is yet to make.
                unbounded = ["ec2:DescribeSecurityGroupRules", *OF_A_VPC]
                assert statement["Resource"] != "*" or set(actions) <= set(unbounded), name
                assert statement["Effect"] == "Allow"
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


def test_nobody_gets_in_by_default_without_credentials(template):
    parameters, conditions = template["Parameters"], template["Conditions"]
    assert parameters["WebhookAuth"]["Default"] == "BASIC"
    assert parameters["AcceptPreviousCredentials"]["Default"] == "false"
    environment = template["Resources"]["IngestFunction"]["Properties"]["Environment"]["Variables"]
    assert environment["WEBHOOK_AUTH"] == {"Ref": "WebhookAuth"}
    # Behind the load balancer's token check there is no other door.
    [assertion] = template["Rules"]["OAuth2NeedsAlbAndIssuer"]["Assertions"]
    assert {"Fn::Equals": [{"Ref": "FrontDoor"}, "ALB"]} in assertion["Assert"]["Fn::And"]
    invokers = [r for r in template["Resources"].values() if r["Type"] == "AWS::Lambda::Permission"]
    assert [(r["Condition"], r["Properties"]["Principal"]) for r in invokers] == [
        ("UseAlb", "elasticloadbalancing.amazonaws.com"),
        ("UseHttpApi", "apigateway.amazonaws.com"),
    ]
    assert conditions["UseHttpApi"] == {"Fn::Equals": [{"Ref": "FrontDoor"}, "HTTP_API"]}
    assert "AWS::Lambda::Url" not in {r["Type"] for r in template["Resources"].values()}


def test_the_token_check_comes_before_ingest_and_can_ask_for_a_claim(template):
    with_token, without = template["Resources"]["WebhookListenerRule"]["Properties"]["Actions"]["Fn::If"][1:]
    assert [(action["Type"], action["Order"]) for action in with_token] == [("jwt-validation", 1), ("forward", 2)]
    assert [action["Type"] for action in without] == ["forward"]
    assert "AdditionalClaims" in with_token[0]["JwtValidationConfig"]


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
    """For a rollback deletes the webhook, an adopted one too."""
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
        "Dashboard",
        "ListExportView",
        "LoadPostgresFunction",
        "WebhookListenerRule",
        "AddressRecord",
        "Ipv6AddressRecord",
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
    assert webhook["Properties"]["Target"] == template["Outputs"]["WebhookUrl"]["Value"]
    # CloudFormation waits longer than the function lives.
    function = template["Resources"]["BirdWebhookFunction"]["Properties"]
    assert webhook["Properties"]["ServiceTimeout"] > function["Timeout"] == 600


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
    assert "`password` in secret ${WebhookSecret.Id}" in form
    assert "resolve:" not in form  # no dynamic reference: the output holds no secret


def test_looked_up_senders_leave_no_moment_without_ingress(template):
    """The load balancer takes the group's id from the resource that fills the group."""
    [group] = template["Resources"]["LoadBalancer"]["Properties"]["SecurityGroups"]
    assert group["Fn::If"][:2] == ["LookUpSenders", {"Fn::GetAtt": ["SenderAddresses", "SecurityGroupId"]}]
    assert "SecurityGroupIngress" not in template["Resources"]["LookedUpSendersSecurityGroup"]["Properties"]


def test_buckets_outlive_the_stack(template):
    buckets = [r for r in template["Resources"].values() if r["Type"] == "AWS::S3::Bucket"]
    assert [(b["DeletionPolicy"], b["UpdateReplacePolicy"]) for b in buckets] == [
        ("RetainExceptOnCreate", "Retain")
    ] * 2


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
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert function["Timeout"] * 1000 > 2 * load_postgres.app.MILLISECONDS_FOR_A_FILE
    # One request postpones ten messages.
    assert function["Events"]["RowsWritten"]["Properties"]["BatchSize"] == 10


def test_postgresql_is_reached_over_tls_whatever_is_set(template):
    assert template["Parameters"]["PostgresTls"]["Default"] == "VERIFY_FULL"
    assert template["Parameters"]["PostgresTls"]["AllowedValues"] == ["VERIFY_FULL", "REQUIRE"]
    assert template["Parameters"]["PostgresSecretArn"]["Default"] == ""


def test_postgresqls_columns_are_the_columns_of_process():
    assert POSTGRES_COLUMNS.read_text() == postgres_columns()


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
    assert (key["Condition"], policy["Condition"]) == ("HashSomeFields", "HashSomeFields")
    assert policy["Properties"]["Roles"] == [{"Ref": "ProcessRole"}]
    [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == (
        "secretsmanager:GetSecretValue",
        {"Fn::GetAtt": ["HashKey", "Id"]},
    )


def test_what_the_erasing_tool_puts_back_is_not_announced(template):
    """It writes by CompleteMultipartUpload; everything else that makes a raw batch has to be announced."""
    raw = template["Resources"]["RawBucket"]["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert [one["Event"] for one in raw] == ["s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy"]
    rows = template["Resources"]["LakeBucket"]["Properties"]["NotificationConfiguration"]["TopicConfigurations"]
    assert [one["Event"] for one in rows] == ["s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"]


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
