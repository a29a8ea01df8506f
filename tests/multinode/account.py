"""What cluster.yaml asks of an account: network, security group, key, bucket and the head's role, at a moto server.

Prints their ids as JSON. Run by the interpreter that has boto3; the endpoint is in the environment.
"""

import json
import sys
from pathlib import Path

import boto3  # pyright: ignore[reportMissingImports] in an environment of its own

REGION = "us-west-2"

ec2, iam, s3 = (boto3.client(name, region_name=REGION) for name in ("ec2", "iam", "s3"))
vpc = ec2.create_vpc(CidrBlock="10.77.0.0/24")["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.77.0.0/24", AvailabilityZone="us-west-2a")["Subnet"]["SubnetId"]
group = ec2.create_security_group(GroupName="raycnn", Description="raycnn", VpcId=vpc)["GroupId"]
ec2.create_key_pair(KeyName="raycnn")
image = ec2.describe_images()["Images"][0]["ImageId"]
trust = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
iam.create_role(RoleName="raycnn-head", AssumeRolePolicyDocument=json.dumps(trust))
iam.put_role_policy(
    RoleName="raycnn-head", PolicyName="raycnn", PolicyDocument=Path(sys.argv[1]).read_text(encoding="utf-8")
)
iam.create_instance_profile(InstanceProfileName="raycnn-head")
iam.add_role_to_instance_profile(InstanceProfileName="raycnn-head", RoleName="raycnn-head")
s3.create_bucket(Bucket="raycnn-runs", CreateBucketConfiguration={"LocationConstraint": REGION})
print(json.dumps({"subnet": subnet, "group": group, "image": image}))
