"""The same as guide_handler.py, without boto3 on top of botocore."""

import os

import botocore.session
from botocore.config import Config

s3 = botocore.session.get_session().create_client("s3", config=Config(s3={"payload_signing_enabled": False}))


def lambda_handler(event, context):
    batch_id = event["headers"]["x-messagesystems-batch-id"]
    s3.put_object(
        Bucket=os.environ["RAW_BUCKET"],
        Key=f"{os.environ['RAW_PREFIX']}/{batch_id}.json",
        Body=event["body"],
        ContentType="application/json",
    )
    return {"statusCode": 200, "statusDescription": "200 OK", "isBase64Encoded": False, "headers": {}, "body": "{}"}
