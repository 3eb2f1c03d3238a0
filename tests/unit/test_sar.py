"""SAR's template: what the rules make of template.yaml, and that each check refuses what it is there for."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from local_aws.yaml_text import yaml_parse
from maintain import check_template
from maintain.check_template import ROOT
from maintain.sar import __main__ as sar
from maintain.sar import checks
from maintain.sar.checks import CHECKS, METADATA, Candidate, capabilities
from maintain.sar.generate import GenerateError, generate, written
from webhook_credentials.settings import left_place, lost_keys, lost_settings


@pytest.fixture(scope="module")
def source():
    return yaml_parse(check_template.TEMPLATE.read_text())


@pytest.fixture(scope="module")
def template(source):
    return generate(source)


def small(**sections):
    return {"Metadata": {}, "Resources": {}, "Outputs": {}, "Conditions": {}, **sections}


FRONT_DOOR = {"FrontDoor": {"Type": "String", "Default": "ALB", "AllowedValues": ["ALB", "HTTP_API"]}}
USE_ALB = {"UseAlb": {"Fn::Equals": [{"Ref": "FrontDoor"}, "ALB"]}}


def test_no_load_balancer_and_no_network_is_left(template):
    types = {resource["Type"] for resource in template["Resources"].values()}
    assert [kind for kind in types if kind.startswith(("AWS::ElasticLoadBalancingV2::", "AWS::EC2::"))] == []
    assert not re.search(r"elasticloadbalancing|ApplicationELB|SecurityGroupIngress", json.dumps(template))
    assert {"AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::DomainName", "AWS::S3::Bucket"} <= types


def test_only_what_means_something_there_is_asked(template):
    parameters = template["Parameters"]
    gone = {"FrontDoor", "VpcId", "SubnetIds", "AccessLogsBucketName"}
    gone |= {"JwtIssuer", "JwksEndpoint", "JwtClaimName", "JwtClaimFormat", "JwtClaimValue"}
    gone |= {"SenderCidrs", "SenderPrefixListId", "SenderHostName"}
    kept = {"DomainName", "HostedZoneId", "CertificateArn", "WebhookPath", "WebhookAuth", "OutputFormat", "AlarmEmail"}
    assert not gone & parameters.keys()
    assert kept <= parameters.keys()
    assert parameters["WebhookAuth"]["AllowedValues"] == ["BASIC", "HEADER", "NONE"]
    assert "OAUTH2" not in parameters["WebhookAuth"]["Description"]
    grouped = [
        name
        for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    assert sorted(grouped) == sorted(parameters)


def test_what_is_kept_is_kept_as_it_is(source, template):
    """A resource without a condition, reference or event that is decided is not touched."""
    for name in ("RawBucket", "IngestRole", "ProcessQueuePolicy", "EventsTable", "AthenaWorkGroup", "WebhookSecret"):
        assert template["Resources"][name] == source["Resources"][name]
    without_condition = {k: v for k, v in source["Resources"]["HttpApi"].items() if k != "Condition"}
    assert template["Resources"]["HttpApi"] == without_condition
    assert template["Outputs"].keys() == source["Outputs"].keys() - {"LoadBalancerDnsName"}


# What an update from SAR does that sets this one setting back to its default, all else being as it was. `refused`: by
# SettingsGuard, before anything changes. Data never moves, nothing is deleted, and Bird's webhook stays.
RESETS = {
    "DomainName": "refused",  # Bird would post to a name that is gone
    "HostedZoneId": "refused",  # the same, for its record
    "CertificateArn": "refused",  # the same, for its certificate
    "WebhookPath": "refused",  # Bird would hear 404
    "WebhookAuth": "refused",  # Bird would hear 401
    "WebhookHeader": "refused",  # Bird would hear 401
    "BirdApiKeySecretArn": "refused",  # the stack would no longer look after its webhook
    "BirdRegion": "refused",  # a second webhook, if the key is good for both
    "BirdEventTypes": "refused",  # Bird would send unwanted types
    "BirdSubaccount": "refused",  # a second webhook, of the whole account
    "BirdApiUrl": "refused",  # the key would go past the proxy
    "Reconcile": "hours are compared with Bird again, if the key may",
    "OutputFormat": "refused",  # rows would move to another format
    "CloseDays": "refused",  # dates would be closed that were to stay as they are
    "CloseAfterHours": "dates are closed 10 hours after their end; those that are closed stay so",
    "RawBucketName": "refused",  # batches would move to another bucket
    "RawPrefix": "refused",  # batches would move to another folder
    "ExistingRawBucket": "refused",  # batches would move to a new bucket
    "ExistingLakeBucket": "refused",  # rows would move to a new bucket
    "FormerRawPlaces": "refused",  # erase and replay would no longer look there
    "ExistingHashKeyArn": "refused",  # equal values would get other hashes
    "ExistingTombstoneKeyArn": "refused",  # erased persons could come in again
    "DropFields": "refused",  # rows would show what was dropped
    "HashFields": "refused",  # rows would show addresses
    "PublishEvents": "refused",  # the bus would be deleted, and the rules on it
    "AlarmEmail": "refused",  # no one would get the alarms
    "PostgresSecretArn": "refused",  # the queue would be deleted, with files that wait in it
    "PostgresSchema": "refused",  # rows would move to another schema
    "PostgresSubnetIds": "refused",  # the database would be out of reach
    "PostgresSecurityGroupIds": "CloudFormation refuses subnets without groups, and rolls back",
    "KmsKeyArn": "refused",  # what was stored under the key could not be read
    "KmsReadKeyArns": "refused",  # the same
    "FunctionSubnetIds": "refused",  # functions would leave the VPC, and the database would be out of reach
    "FunctionSecurityGroupIds": "CloudFormation refuses subnets without groups, and rolls back",
    "CredentialsVersion": "the credentials' digests are computed anew, and are the same",
    "SettingsToReset": "SettingsGuard refuses what it allowed before",
    "BirdWebhookName": "the webhook gets the stack's name",
    "AdoptBirdWebhook": "a webhook taken over stays with the stack; no other is taken over",
    "DeleteBirdWebhook": "the webhook stays at Bird when the stack is deleted",
    "RawRetentionDays": "batches are kept for ever",
    "QuarantineRetentionDays": "quarantined events are kept for ever",
    "LogRetentionDays": "logs are kept for 30 days: older ones go, or newer ones stay longer",
    "AthenaScanLimitMegabytes": "a query may scan 10 GB",
    "PublishedEventTypes": "the default types go to the bus",
    "PublishedMaximumAgeDays": "events older than a week do not go to the bus",
    "RowsTopicSubscribers": "subscriptions stay and get their messages; other accounts can make no new one",
    "SoftBounceLimit": "the lists count soft bounces by the default",
    "SoftBounceDays": "the lists count soft bounces by the default",
    "SilenceHours": "silence fires by the default, or not at all",
    "PostgresTls": "the database has to prove who it is: files wait if it cannot",
    "PostgresMaximumConcurrency": "files are loaded two at a time",
    "PostgresRetentionMonths": "no month is dropped any more",
    "DailyReport": "no new report is written; those written stay",
    "DeliverabilityAlerts": "no new alert is sent; what was told stays in the lake bucket",
    "ReportTimezone": "the report's days are those of UTC",
    "DeliverabilityThresholds": "the report names what is over the default thresholds",
    "IngestMemoryMegabytes": "the function has the default's memory",
    "ProcessMemoryMegabytes": "the function has the default's memory",
    "IngestReservedConcurrency": "no executions are set apart",
    "ProcessMaximumConcurrency": "files are processed with the default's concurrency",
    "PermissionsBoundaryArn": "roles lose the boundary, or the account refuses the update; no data moves",
}


def test_what_an_update_from_sar_does_that_resets_a_setting_is_said_for_each(template):
    guarded = template["Resources"]["SettingsGuard"]["Properties"]["Settings"]
    assert {name for name, effect in RESETS.items() if effect == "refused"} == guarded.keys()
    assert RESETS.keys() == template["Parameters"].keys()


def test_the_guard_knows_each_value_and_its_default(source, template):
    for made in (source, template):
        for name, setting in made["Resources"]["SettingsGuard"]["Properties"]["Settings"].items():
            assert setting == {"Value": {"Ref": name}, "Default": made["Parameters"][name]["Default"]}


@pytest.mark.parametrize("name", [name for name, effect in RESETS.items() if effect == "refused"])
def test_a_reset_of_a_guarded_setting_is_refused_by_its_name(template, name):
    guard = template["Resources"]["SettingsGuard"]["Properties"]["Settings"]
    defaults = {each: {**setting, "Value": setting["Default"]} for each, setting in guard.items()}
    before = {"Settings": defaults | {name: {**defaults[name], "Value": "what was set"}}, "SettingsToReset": ""}
    assert lost_settings(before, {"Settings": defaults, "SettingsToReset": ""}) == [name]
    assert lost_settings(before, {"Settings": defaults, "SettingsToReset": name}) == []
    assert lost_settings(before, before) == []


def kms(key: str = "", read: str = "", reset: str = "") -> dict:
    settings = {"KmsKeyArn": {"Value": key, "Default": ""}, "KmsReadKeyArns": {"Value": read, "Default": ""}}
    return {"Settings": settings, "SettingsToReset": reset}


KEYS = [
    pytest.param(kms(), kms("arn:a"), [], id="first key"),
    pytest.param({}, kms("arn:a"), [], id="first key, of a version without such settings"),
    pytest.param(kms("arn:a"), kms("arn:b"), ["arn:a"], id="another key alone"),
    pytest.param(kms("arn:a"), kms("arn:b", "arn:a"), [], id="another key, and the earlier one to read"),
    pytest.param(kms("arn:a"), kms("", "arn:a", "KmsKeyArn"), [], id="back to S3's key, the earlier one to read"),
    pytest.param(kms("arn:a"), kms("", "", "KmsKeyArn"), ["arn:a"], id="back to S3's key, earlier objects forgotten"),
    pytest.param(kms("arn:b", "arn:a,arn:c"), kms("arn:b", "arn:c"), ["arn:a"], id="one of two earlier keys removed"),
    pytest.param(kms("arn:b", "arn:a"), kms("arn:b", "", "KmsReadKeyArns"), [], id="nothing is under the earlier key"),
]


@pytest.mark.parametrize(("before", "after", "lost"), KEYS)
def test_no_update_takes_a_key_away_that_objects_may_need(before, after, lost):
    assert lost_keys(before, after) == lost


def raw(prefix: str = "raw", reset: str = "", **given: str) -> dict:
    """Properties of the guard."""
    values = {"RawPrefix": prefix, "RawBucketName": "", "ExistingRawBucket": "", "FormerRawPlaces": "", **given}
    settings = {
        name: {"Value": value, "Default": "raw" if name == "RawPrefix" else ""} for name, value in values.items()
    }
    return {"Settings": settings, "SettingsToReset": reset}


OF_0_2 = {"Settings": {name: raw()["Settings"][name] for name in ("RawPrefix", "RawBucketName")}}
OWN = "(the output RawBucketName)"
PLACES = [
    pytest.param(raw(), raw(), "", id="nothing changed"),
    pytest.param(raw(), raw("bird"), f"{OWN}/raw", id="prefix"),
    pytest.param(raw(), raw("bird", FormerRawPlaces="bird-rawbucket-1/raw"), "", id="prefix, named"),
    pytest.param(raw(), raw("bird", FormerRawPlaces="a/b,bird-rawbucket-1/raw/"), "", id="prefix, named with a slash"),
    pytest.param(raw(), raw("bird", FormerRawPlaces="bird-rawbucket-1/other"), f"{OWN}/raw", id="another is named"),
    pytest.param(raw(), raw("bird", "FormerRawPlaces"), "", id="prefix, meant to be forgotten"),
    pytest.param(raw(), raw("bird", "RawPrefix"), f"{OWN}/raw", id="prefix, reset but not forgotten"),
    pytest.param(raw(), raw(ExistingRawBucket="company"), f"{OWN}/raw", id="to an existing bucket"),
    pytest.param(raw(ExistingRawBucket="a"), raw(ExistingRawBucket="b"), "a/raw", id="another existing bucket"),
    pytest.param(
        raw(ExistingRawBucket="a"), raw(ExistingRawBucket="b", FormerRawPlaces="a/raw"), "", id="existing, named"
    ),
    pytest.param(
        raw(ExistingRawBucket="a"),
        raw(ExistingRawBucket="b", FormerRawPlaces="c/raw"),
        "a/raw",
        id="wrong bucket named",
    ),
    pytest.param(raw(RawBucketName="a"), raw(RawBucketName="b"), "a/raw", id="another name"),
    pytest.param(raw(RawBucketName="a"), raw(ExistingRawBucket="a"), "", id="its own bucket as an existing one"),
    pytest.param(raw(ExistingRawBucket="a"), raw(RawBucketName="b", ExistingRawBucket="a"), "", id="a name not used"),
    pytest.param(OF_0_2, raw(ExistingRawBucket="a"), f"{OWN}/raw", id="with an upgrade"),
    pytest.param(OF_0_2, raw(), "", id="an upgrade"),
    pytest.param({}, raw("bird"), "", id="of a version without settings"),
]


@pytest.mark.parametrize(("before", "after", "left"), PLACES)
def test_no_update_leaves_a_place_of_raw_batches_unnamed(before, after, left):
    """The guard is before the raw bucket; Storage, which knows each place, is after it."""
    assert left_place(before, after) == left


# Who makes the buckets: with an existing one, nothing waits for the guard by referring to the stack's own.
BUCKETS = [
    pytest.param(
        {"MakeRawBucket": raw, "MakeLakeBucket": lake},
        id=f"{'own' if raw else 'existing'} raw, {'own' if lake else 'existing'} lake",
    )
    for raw in (True, False)
    for lake in (True, False)
]


@pytest.mark.parametrize("made", BUCKETS)
def test_what_a_guarded_setting_shapes_waits_for_the_guard(template, made):
    """So that nothing has changed when it refuses, for example no rows without HashFields until the rollback ends.

    CloudFormation deletes resources only after everything else in an update has succeeded.
    """
    resources = as_deployed(template, made)
    guarded = resources["SettingsGuard"]["Properties"]["Settings"].keys()
    conditions = {name: check_template.references(content) for name, content in template["Conditions"].items()}
    too_early = []
    for name, resource in resources.items():
        named = check_template.references(resource) | set(re.findall(r"\"Fn::If\": \[\"(\w+)\"", json.dumps(resource)))
        for _ in range(5):  # conditions name conditions
            named |= set().union(*(conditions[each] for each in named & conditions.keys()))
        if named & guarded and name != "SettingsGuard" and "SettingsGuard" not in before(name, resources):
            too_early.append(name)
    assert set(too_early) - EARLY_BUT_HARMLESS == set()


@pytest.mark.parametrize("made", BUCKETS)
def test_what_stores_batches_and_makes_rows_waits_for_storage(template, made):
    """Or a deployment that Storage refuses would have stored rows under a new hash key, or in another lake."""
    resources = as_deployed(template, made)
    for name in ("IngestFunction", "ProcessFunction", "ProcessRole", "ImportFunction", "ImportRole"):
        assert "Storage" in before(name, resources), name


def as_deployed(template: dict, conditions: dict[str, bool]) -> dict:
    """Resources where these conditions are so; for the others, both branches."""

    def chosen(node):
        if isinstance(node, list):
            return [chosen(each) for each in node]
        if not isinstance(node, dict):
            return node
        if list(node) == ["Fn::If"] and node["Fn::If"][0] in conditions:
            name, where_true, where_false = node["Fn::If"]
            return chosen(where_true if conditions[name] else where_false)
        return {name: chosen(each) for name, each in node.items()}

    return {
        name: chosen(resource)
        for name, resource in template["Resources"].items()
        if conditions.get(resource.get("Condition"), True)
    }


def test_an_update_from_sar_that_resets_the_alerts_deletes_no_data(template):
    """What was told is in the lake bucket, which does not depend on the setting."""
    assert template["Parameters"]["DeliverabilityAlerts"]["Default"] == "OFF"
    of_alerts = {
        name: resource["Type"]
        for name, resource in template["Resources"].items()
        if resource.get("Condition") == "AlertDeliverability"
    }
    assert of_alerts == {
        "DeliverabilityAlertsFunction": "AWS::Serverless::Function",
        "DeliverabilityAlertsRole": "AWS::IAM::Role",
        "DeliverabilityAlertsLogGroup": "AWS::Logs::LogGroup",
        "DeliverabilityAlertsErrorsAlarm": "AWS::CloudWatch::Alarm",
    }


EARLY_BUT_HARMLESS = {
    # A reset makes their condition false: they are deleted at the end, or not at all.
    *("Certificate", "AddressRecord", "HttpApiDomain", "AlarmEmailSubscription", "BirdWebhookRole", "LoadPostgresRole"),
    # Used by ingest and by BirdWebhook, which wait.
    *("WebhookCredentials", "BirdWebhookFunction"),
    # The guard is this function, and its role reads the secret: the rollback of a refused update restores both.
    *("WebhookSecret", "WebhookCredentialsRole", "WebhookCredentialsFunction"),
    # Without the bus they tell the alarm topic only.
    *("DeliverabilityAlertsFunction", "DeliverabilityAlertsBusPolicy"),
    # A query of these seconds may fail; no row is written by them.
    *("EventsTable", "EventsDeduplicatedView"),
}


def before(name: str, resources: dict) -> set[str]:
    """All that CloudFormation makes or changes before this resource."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        depends = {one for each in waiting for one in checks.as_list(resources[each].get("DependsOn", []))}
        waiting = depends.union(*(check_template.references(resources[each]) for each in waiting))
        waiting = waiting & resources.keys() - found
        found |= waiting
    return found


def test_the_same_template_comes_out_each_time(source):
    before = copy.deepcopy(source)
    assert written(generate(source)) == written(generate(copy.deepcopy(source)))
    assert source == before


def test_what_is_written_reads_the_same_and_needs_no_references(template):
    text = written(template)
    assert yaml_parse(text) == template
    assert re.search(r"^\s*\S+: [&*]\w", text, re.MULTILINE) is None


def test_conditions_are_worked_out():
    domain = {"DomainName": {"Type": "String", "Default": ""}}
    conditions = {
        **USE_ALB,
        "HasDomain": {"Fn::Not": [{"Fn::Equals": [{"Ref": "DomainName"}, ""]}]},
        "Both": {"Fn::And": [{"Fn::Not": [{"Condition": "UseAlb"}]}, {"Condition": "HasDomain"}]},
        "Neither": {"Fn::And": [{"Condition": "UseAlb"}, {"Condition": "HasDomain"}]},
        "Either": {"Fn::Or": [{"Condition": "UseAlb"}, {"Condition": "Both"}]},
    }
    resources = {
        "Always": {
            "Type": "AWS::SQS::Queue",
            "DependsOn": ["Never"],
            "Properties": {
                "QueueName": {"Fn::If": ["UseAlb", "alb", {"Fn::Sub": "${FrontDoor}-${DomainName}"}]},
                "KmsMasterKeyId": {"Fn::If": ["UseAlb", "key", {"Ref": "AWS::NoValue"}]},
            },
        },
        "Sometimes": {"Type": "AWS::SQS::Queue", "Condition": "Either"},
        "Never": {"Type": "AWS::SQS::Queue", "Condition": "Neither"},
    }
    made = generate(small(Parameters={**FRONT_DOOR, **domain}, Conditions=conditions, Resources=resources))
    assert made["Conditions"] == {"HasDomain": {"Fn::Not": [{"Fn::Equals": [{"Ref": "DomainName"}, ""]}]}}
    assert made["Resources"] == {
        "Always": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::Sub": "HTTP_API-${DomainName}"}}},
        "Sometimes": {"Type": "AWS::SQS::Queue", "Condition": "HasDomain"},
    }
    assert list(made["Parameters"]) == ["DomainName"]


def test_a_reference_to_what_is_gone_is_an_error():
    resources = {
        "Gone": {"Type": "AWS::SQS::Queue", "Condition": "UseAlb"},
        "Asks": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::GetAtt": ["Gone", "QueueName"]}}},
    }
    with pytest.raises(GenerateError, match="still referred to, but gone: Gone"):
        generate(small(Parameters=FRONT_DOOR, Conditions=USE_ALB, Resources=resources))


def test_a_default_that_a_rule_refuses_is_an_error():
    auth = {"Auth": {"Type": "String", "Default": "JWT", "AllowedValues": ["JWT", "BASIC"], "Description": "How"}}
    rule = {
        "RuleCondition": {"Fn::Equals": [{"Ref": "Auth"}, "JWT"]},
        "Assertions": [{"Assert": {"Fn::Equals": [{"Ref": "FrontDoor"}, "ALB"]}}],
    }
    with pytest.raises(GenerateError, match="JWT is the default of Auth, and a rule refuses it"):
        generate(small(Parameters={**FRONT_DOOR, **auth}, Rules={"JwtNeedsAlb": rule}))


def test_a_queues_events_are_written_as_the_sam_transform_writes_them(source, template):
    """SAR's older SAM never sees their properties; the resource keeps its name, as in a stack of template.yaml."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            assert "SQS" not in [event["Type"] for event in resource["Properties"].get("Events", {}).values()]
    by_sam = check_template.transformed_template()["Resources"]["ProcessFunctionRawBatchCreated"]
    ours = template["Resources"]["ProcessFunctionRawBatchCreated"]
    assert ours == {"Type": by_sam["Type"], "Properties": by_sam["Properties"]}


def test_the_version_is_the_newest_of_the_changelog(source):
    headings = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert source["Metadata"][METADATA]["SemanticVersion"] == headings[0]


def test_readme_names_each_capability_and_only_parameters_that_are_there(candidate):
    text = (ROOT / "docs/sar-readme.md").read_text()
    table = set(re.findall(r"^\| `(CAPABILITY_[A-Z_]+)`", text, re.MULTILINE))
    assert table == {"CAPABILITY_IAM", "CAPABILITY_RESOURCE_POLICY"}
    assert capabilities(candidate()) == ["CAPABILITY_IAM", "CAPABILITY_RESOURCE_POLICY"]
    named = set(re.findall(r"^\| `([A-Za-z]+)`", text, re.MULTILINE))
    known = {*candidate().template["Parameters"], *candidate().template["Outputs"]}
    assert len(named) > 5
    assert named <= known


# --- The checks ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packaged(tmp_path_factory, template) -> Candidate:
    """As `sam package` leaves it, as far as the checks look."""
    made = json.loads(json.dumps(template))
    for resource in made["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/code"
    documents = {"ReadmeUrl": ROOT / made["Metadata"][METADATA]["ReadmeUrl"], "LicenseUrl": ROOT / "LICENSE"}
    made["Metadata"][METADATA] |= {"ReadmeUrl": "s3://bucket/readme", "LicenseUrl": "s3://bucket/licence"}
    path = tmp_path_factory.mktemp("sar") / "packaged.yaml"
    path.write_text(written(made))
    return Candidate(path, made, check_template.transformed_template(path), documents)


@pytest.fixture
def candidate(packaged):
    """A copy of it to spoil."""

    def make() -> Candidate:
        return Candidate(
            packaged.path,
            copy.deepcopy(packaged.template),
            copy.deepcopy(packaged.transformed),
            dict(packaged.documents),
        )

    return make


def test_nothing_is_found_in_what_is_published(packaged):
    """cfn-lint, which takes its time, has its say in `make sar`."""
    assert {check.__name__: list(check(packaged)) for check in CHECKS if check is not checks.lint} == {
        "resource_types": [],
        "custom_resources": [],
        "parameters": [],
        "sam_properties": [],
        "artefacts": [],
        "blocked_iam": [],
        "metadata": [],
        "document_sizes": [],
        "template_size": [],
        "artefact_size": [],
        "rules_of_aws": [],
        "cycles": [],
    }


def add(**resource):
    def spoil(candidate: Candidate) -> None:
        candidate.template["Resources"]["Odd"] = resource
        candidate.transformed["Resources"]["Odd"] = resource

    return spoil


def set_metadata(**values):
    return lambda candidate: candidate.template["Metadata"][METADATA].update(values)


def set_parameter(name, **values):
    return lambda candidate: candidate.template["Parameters"].update({name: values})


def set_function(**values):
    return lambda candidate: candidate.template["Resources"]["IngestFunction"]["Properties"].update(values)


def policy(action, resource):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return add(Type="AWS::IAM::Role", Properties={"Policies": [{"PolicyDocument": {"Statement": [statement]}}]})


NEWER = "is not known to be taken"
REFUSED = [
    (checks.resource_types, add(Type="AWS::WAFv2::IPSet"), "Odd is of type AWS::WAFv2::IPSet, which SAR does not take"),
    (checks.custom_resources, add(Type="Custom::Thing"), "Odd is of type Custom::Thing"),
    (
        checks.parameters,
        set_parameter("Vpc", Type="AWS::EC2::VPC::Id", Default="", Description="A VPC"),
        "parameter Vpc is of type AWS::EC2::VPC::Id",
    ),
    (checks.parameters, set_parameter("Name", Type="String", Description="A name"), "parameter Name has no default"),
    (checks.parameters, set_parameter("Name", Type="String", Default=""), "parameter Name has no description"),
    (checks.sam_properties, set_function(SnapStart={}), f"IngestFunction has SnapStart, which {NEWER}"),
    (
        checks.sam_properties,
        set_function(Events={"E": {"Type": "ScheduleV2", "Properties": {"ScheduleExpression": "rate(1 day)"}}}),
        f"IngestFunction has an event ScheduleV2 with ScheduleExpression, which {NEWER}",
    ),
    (
        checks.sam_properties,
        add(Type="AWS::Serverless::StateMachine"),
        "Odd is of type AWS::Serverless::StateMachine, whose properties are not checked here",
    ),
    (checks.sam_properties, lambda c: c.template.update(Rules={}), "section Rules is not known to be taken"),
    (
        checks.sam_properties,
        lambda c: c.template.update(Transform=["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]),
        "transform is ['AWS::LanguageExtensions', 'AWS::Serverless-2016-10-31'], not SAM's alone",
    ),
    (checks.artefacts, set_function(CodeUri="functions/ingest/"), "IngestFunction has its code at functions/ingest/"),
    (
        checks.artefacts,
        add(Type="AWS::Lambda::Function"),
        "Odd is of type AWS::Lambda::Function, whose code would stay in the publisher's bucket",
    ),
    (
        checks.blocked_iam,
        add(Type="AWS::IAM::Role", Properties={"ManagedPolicyArns": ["arn:aws:iam::aws:policy/AWSLambda_FullAccess"]}),
        "Odd has AWSLambda_FullAccess",
    ),
    (checks.blocked_iam, policy("iam:PutRolePolicy", "*"), "Odd allows iam:putrolepolicy on everything"),
    (checks.blocked_iam, policy(["iam:PassRole", "s3:GetObject"], ["*"]), "Odd allows iam:passrole on everything"),
    (checks.metadata, set_metadata(Author="Bird Webhooks"), "Author is 'Bird Webhooks'"),
    (checks.metadata, set_metadata(Author="bird--webhooks"), "Author is 'bird--webhooks'"),
    (checks.metadata, set_metadata(Description="x" * 257), f"Description is {'x' * 257!r}"),
    (checks.metadata, set_metadata(Name={"Ref": "AWS::StackName"}), "Name is {'Ref': 'AWS::StackName'}"),
    (checks.metadata, set_metadata(SemanticVersion="1.0"), "SemanticVersion is '1.0'"),
    (checks.metadata, set_metadata(SpdxLicenseId="MIT-0"), "SpdxLicenseId is 'MIT-0'"),
    (checks.metadata, set_metadata(ReadmeUrl="docs/sar-readme.md"), "ReadmeUrl is 'docs/sar-readme.md'"),
    (checks.metadata, set_metadata(SourceCodeUrl=None), "SourceCodeUrl is None"),
    (checks.metadata, set_metadata(Labels=["a b"]), "Labels ['a b'] are none"),
    (checks.metadata, set_metadata(Labels=[]), "Labels are [], one to 10 are wanted"),
    (
        checks.document_sizes,
        lambda c: c.documents.update(ReadmeUrl=Path("/nowhere")),
        "ReadmeUrl is not there: /nowhere",
    ),
    (
        checks.template_size,
        lambda c: c.transformed.update(Outputs=dict.fromkeys(map(str, range(201)))),
        "201 outputs, at most 200 are allowed",
    ),
    (
        checks.cycles,
        add(Type="AWS::SQS::Queue", DependsOn="Odd"),
        "circular dependency: Odd -> Odd",
    ),
]


@pytest.mark.parametrize(
    ("check", "spoil", "finding"), REFUSED, ids=[f"{number}-{row[0].__name__}" for number, row in enumerate(REFUSED)]
)
def test_each_check_refuses_what_it_is_there_for(candidate, check, spoil, finding):
    spoiled = candidate()
    spoil(spoiled)
    assert list(check(spoiled)) == [finding]


def test_one_finding_is_enough_not_to_be_publishable(candidate, capsys, monkeypatch):
    monkeypatch.setattr(sar, "CHECKS", [checks.metadata])
    monkeypatch.setattr(sar, "ROOT", candidate().path.parent)
    assert sar.report(candidate()) == 0
    assert capsys.readouterr().out.endswith("\npublishable\n")
    spoiled = candidate()
    spoiled.template["Metadata"][METADATA]["Author"] = "Somebody"
    assert sar.report(spoiled) == 1
    said = capsys.readouterr().out
    assert "  NOT  metadata is complete, within SAR's limits, and plain text\n         Author is 'Somebody'\n" in said
    assert said.endswith("\nnot publishable: 1 findings\n")


def test_addresses_that_have_to_be_set_before_publishing_are_said(candidate, capsys, monkeypatch):
    monkeypatch.setattr(sar, "CHECKS", [checks.metadata])
    monkeypatch.setattr(sar, "ROOT", candidate().path.parent)
    made = candidate()
    made.template["Metadata"][METADATA]["HomePageUrl"] = "https://github.com/example/intake"
    sar.report(made)
    said = capsys.readouterr().out
    assert (
        "before `sam publish`: SourceCodeUrl is the placeholder https://github.com/bird-webhooks/bird-webhooks" in said
    )
    assert "HomePageUrl is the placeholder" not in said


def test_big_documents_and_templates_are_refused(candidate, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(b"x" * 5_000_001)
    made = candidate()
    made.documents["LicenseUrl"] = big
    assert list(checks.document_sizes(made)) == ["LicenseUrl has 5000001 bytes"]
    large = Candidate(big, made.template, made.transformed, made.documents)
    assert list(checks.template_size(large)) == ["the template has 5000001 bytes"]


def test_code_that_comes_near_sars_limit_is_refused(candidate):
    assert list(checks.artefact_size(replace(candidate(), artefact_bytes=95_000_000))) == []
    large = replace(candidate(), artefact_bytes=95_000_001)
    assert list(checks.artefact_size(large)) == ["the code has 95000001 bytes"]


def test_rules_of_aws_hold_for_sars_template_too(candidate):
    spoiled = candidate()
    spoiled.transformed["Description"] = "a\0b"
    [finding] = checks.rules_of_aws(spoiled)
    assert finding.startswith("template.Description holds the character U+0000 (text_can_be_xml: ")


def test_what_cfn_lint_finds_is_refused(tmp_path, packaged):
    path = tmp_path / "wrong.yaml"
    path.write_text("Resources: {Queue: {Type: AWS::SQS::Queue, Properties: {Colour: blue}}}\n")
    [finding] = checks.lint(Candidate(path, {}, {}, {}))
    assert "E3002" in finding


def test_the_load_balancer_of_alb_yaml_is_as_strict_as_the_templates(source):
    """It is kept by hand; what guards the door is not to drift."""
    alb = yaml_parse(check_template.ALB_TEMPLATE.read_text())["Resources"]
    ours = source["Resources"]
    rules = {name for name, resource in ours.items() if resource["Type"].endswith("::ListenerRule")}
    for name in rules:
        given, wanted = alb[name]["Properties"], ours[name]["Properties"]
        assert (given["Priority"], given["Conditions"][1:]) == (wanted["Priority"], wanted["Conditions"][1:])
    assert (
        alb["HealthCheckListenerRule"]["Properties"]["Actions"]
        == ours["HealthCheckListenerRule"]["Properties"]["Actions"]
    )
    for name, key in [("Listener", "SslPolicy"), ("Listener", "DefaultActions")]:
        assert alb[name]["Properties"][key] == ours[name]["Properties"][key]
    for key in ("HealthCheckEnabled", "TargetGroupAttributes", "Name"):
        assert alb["IngestTargetGroup"]["Properties"][key] == ours["IngestTargetGroup"]["Properties"][key]
    permission = ("Principal", "SourceAccount", "SourceArn")
    assert [alb["IngestTargetGroupPermission"]["Properties"][key] for key in permission] == [
        ours["IngestTargetGroupPermission"]["Properties"][key] for key in permission
    ]
    attributes = ours["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]
    assert [a for a in alb["LoadBalancer"]["Properties"]["LoadBalancerAttributes"] if a not in attributes] == []
    ingress = ours["LoadBalancerSecurityGroup"]["Properties"]["SecurityGroupIngress"]["Fn::If"][2]
    assert alb["LoadBalancerSecurityGroup"]["Properties"]["SecurityGroupIngress"] == ingress
