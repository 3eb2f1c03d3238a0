"""Templates are read as CloudFormation reads their short forms."""

from local_aws.yaml_text import yaml_parse

TEXT = """
Name: !Ref Bucket
Arn: !GetAtt Role.Arn
Text: !Sub "${AWS::StackName}-x"
Joined: !Join ["/", [a, !If [Given, b, c]]]
Condition: !Condition Given
Version: 2010-09-09
"""


def test_short_forms_become_the_long_ones():
    parsed = yaml_parse(TEXT)
    version = parsed.pop("Version")
    assert str(version) == "2010-09-09"
    assert parsed == {
        "Name": {"Ref": "Bucket"},
        "Arn": {"Fn::GetAtt": ["Role", "Arn"]},
        "Text": {"Fn::Sub": "${AWS::StackName}-x"},
        "Joined": {"Fn::Join": ["/", ["a", {"Fn::If": ["Given", "b", "c"]}]]},
        "Condition": {"Condition": "Given"},
    }
