"""KMS: who reads or writes what a customer's key encrypts needs a right to that key too."""

from typing import Any

from ministack.core import iam_evaluator
from ministack.services import kms, s3, secretsmanager
from ministack.services.cloudformation import provisioners

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule


@rule(
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html#aws-managed-customer-managed-keys",
    RULES,
)
def the_callers_right_to_the_key_is_asked_for() -> None:
    """S3 and Secrets Manager ask KMS in the caller's name: a read needs kms:Decrypt, a write kms:GenerateDataKey."""
    enforce = iam_evaluator.enforce

    def with_key(access_key: str, action: str, service: str, region: str, resource_arn: str = "*", **rest: Any) -> Any:
        denied = enforce(access_key, action, service, region, resource_arn=resource_arn, **rest)
        if denied or not (needed := needed_of_key(action, resource_arn)):
            return denied
        right, key = needed
        context = {"kms:viaservice": f"{service}.{region}.amazonaws.com"}
        return enforce(access_key, right, "kms", region, resource_arn=key_arn(key), service_context=context)

    iam_evaluator.enforce = with_key


@rule(
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-bucketencryption.html",
    RULES,
)
def stacks_set_their_buckets_encryption() -> None:
    """A bucket of a stack has the stack's BucketEncryption, which MiniStack's CloudFormation drops without a word."""
    of_stacks = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]
    create, update = of_stacks["create"], of_stacks["update"]

    def creating(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        made = create(logical_id, properties, stack_name)
        s3._put_bucket_encryption(made[0], as_xml(properties))
        return made

    def updating(physical_id: str, old: Any, new: dict[str, Any], stack_name: str) -> Any:
        made = update(physical_id, old, new, stack_name)
        s3._put_bucket_encryption(made[0], as_xml(new))
        return made

    of_stacks |= {"create": creating, "update": updating}


def as_xml(properties: dict[str, Any]) -> bytes:
    given = properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [{}])[0]
    by_default = given.get("ServerSideEncryptionByDefault", {"SSEAlgorithm": "AES256"})
    members = "".join(f"<{name}>{value}</{name}>" for name, value in by_default.items())
    bucket_key = str(given.get("BucketKeyEnabled", False)).lower()
    return (
        f'<ServerSideEncryptionConfiguration xmlns="{s3.S3_NS}"><Rule>'
        f"<ApplyServerSideEncryptionByDefault>{members}</ApplyServerSideEncryptionByDefault>"
        f"<BucketKeyEnabled>{bucket_key}</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
    ).encode()


def needed_of_key(action: str, resource_arn: str) -> tuple[str, str] | None:
    """The action on the key, and the key; None where no customer's key is used."""
    key = None
    if action == "secretsmanager:GetSecretValue":
        right, key = "kms:Decrypt", (secretsmanager._resolve(resource_arn)[1] or {}).get("KmsKeyId")
    elif action in ("s3:PutObject", "s3:GetObject"):
        bucket, _, name = resource_arn.rpartition(":::")[2].partition("/")
        if action == "s3:PutObject":
            right, headers = "kms:GenerateDataKey", s3._bucket_default_sse_headers(bucket)
        else:
            stored = ((s3._buckets.get(bucket) or {}).get("objects") or {}).get(name) or {}
            right, headers = "kms:Decrypt", s3._stored_sse_headers(stored)
        key = headers.get("x-amz-server-side-encryption-aws-kms-key-id")
    return (right, key) if key and "alias/aws/" not in key else None


def key_arn(key: str) -> str:
    return str((kms._resolve_key(key) or {}).get("Arn", key))
