"""A company's key and network, on the stack with every optional part: its other tests show that all of it works so.

The local AWS asks for each role's right to the key (docs/local-aws.md). It has no packets to route.
"""

import uuid

from tests.e2e.webhook import batch, post, raw_keys, rows_of


def functions(stack) -> dict[str, dict]:
    """The configuration of each function, by its name in the template."""
    client = stack.emulator.client("lambda")
    kinds = stack.stack.resources
    return {
        name: client.get_function_configuration(FunctionName=physical)
        for name, (kind, physical) in kinds.items()
        if kind == "AWS::Lambda::Function"
    }


def test_every_function_is_in_the_companys_network(stack, company):
    found = functions(stack)
    assert len(found) == 13
    networks = {
        name: (one["VpcConfig"]["SubnetIds"], one["VpcConfig"]["SecurityGroupIds"]) for name, one in found.items()
    }
    assert networks == dict.fromkeys(found, ([company["FunctionSubnetIds"]], [company["FunctionSecurityGroupIds"]]))


def test_what_is_stored_is_under_the_companys_key(stack, company):
    key = company["KmsKeyArn"]
    s3, secrets = stack.emulator.client("s3"), stack.emulator.client("secretsmanager")
    raw, lake = stack.outputs["RawBucketName"], stack.outputs["LakeBucketName"]
    for bucket in (raw, lake):
        [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        assert rule["BucketKeyEnabled"] is True
    batch_id = str(uuid.uuid4())
    assert post(stack, batch({"type": "bounce", "event_id": batch_id}), batch_id=batch_id)[:2] == (200, "stored")
    assert len(rows_of(stack, batch_id, "event_id", 1)) == 1
    stored = [(raw, next(key for key in raw_keys(stack) if batch_id in key))]
    stored += [(lake, each["Key"]) for each in s3.list_objects_v2(Bucket=lake, Prefix="events/", MaxKeys=1)["Contents"]]
    for bucket, name in stored:
        head = s3.head_object(Bucket=bucket, Key=name)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    for output in ("WebhookSecretArn", "HashKeyArn", "TombstoneKeyArn"):
        assert secrets.describe_secret(SecretId=stack.outputs[output])["KmsKeyId"] == key
    group = stack.emulator.client("athena").get_work_group(WorkGroup=stack.outputs["AthenaWorkGroupName"])
    results = group["WorkGroup"]["Configuration"]["ResultConfiguration"]["EncryptionConfiguration"]
    assert results == {"EncryptionOption": "SSE_KMS", "KmsKey": key}


def test_what_s3_and_cloudwatch_announce_does_not_wait_for_the_companys_key(stack):
    """S3 drops an announcement without a word if it cannot use the queue's key."""
    sqs, sns = stack.emulator.client("sqs"), stack.emulator.client("sns")
    for queue in stack.stack.physical_ids("AWS::SQS::Queue"):
        found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        assert (found.get("KmsMasterKeyId"), found["SqsManagedSseEnabled"]) == (None, "true")
    for topic in stack.stack.physical_ids("AWS::SNS::Topic"):
        assert "KmsMasterKeyId" not in sns.get_topic_attributes(TopicArn=topic)["Attributes"]
