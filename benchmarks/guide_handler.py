"""ingest the way Bird's guide describes it: boto3, its client made at import, an unconditional put."""

import os

import boto3

s3 = boto3.client("s3")


def lambda_handler(event, context):
    batch_id = event["headers"]["x-messagesystems-batch-id"]
    s3.put_object(
        Bucket=os.environ["RAW_BUCKET"],
        Key=f"{os.environ['RAW_PREFIX']}/{batch_id}.json",
        Body=event["body"],
        ContentType="application/json",
    )
    return {"statusCode": 200, "statusDescription": "200 OK", "isBase64Encoded": False, "headers": {}, "body": "{}"}
