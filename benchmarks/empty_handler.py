"""What the interpreter and Lambda's runtime client alone cost."""


def lambda_handler(event, context):
    return {"statusCode": 200, "statusDescription": "200 OK", "isBase64Encoded": False, "headers": {}, "body": "{}"}
