"""boto3: `client.py URL FILE`; connects by listing buckets once. A URL that it signs beforehand is
written to the file."""

import sys
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client(
    "s3",
    endpoint_url=sys.argv[1],
    region_name="eu-central-1",
    aws_access_key_id="live",
    aws_secret_access_key="secret",
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
)


def deeds():
    s3.create_bucket(
        Bucket="first", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    s3.put_object(Bucket="first", Key="a key/ä", Body=b"x" * 100_000)
    s3.get_object(Bucket="first", Key="a key/ä")["Body"].read()
    place = {"Bucket": "first", "Key": "a key/ä"}
    url = s3.generate_presigned_url("get_object", Params=place)
    with open(sys.argv[2], "w") as file:
        file.write(url)
    with urllib.request.urlopen(url) as signed:
        signed.read()
    s3.head_object(Bucket="first", Key="a key/ä")
    s3.copy_object(Bucket="first", Key="copy", CopySource={"Bucket": "first", "Key": "a key/ä"})
    s3.list_objects_v2(Bucket="first")
    upload = s3.create_multipart_upload(Bucket="first", Key="big")["UploadId"]
    part = {"Bucket": "first", "Key": "big", "UploadId": upload}
    tag = s3.upload_part(PartNumber=1, Body=b"part", **part)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    s3.complete_multipart_upload(MultipartUpload=parts, **part)
    upload = s3.create_multipart_upload(Bucket="first", Key="none")["UploadId"]
    s3.abort_multipart_upload(Bucket="first", Key="none", UploadId=upload)
    try:
        s3.get_object(Bucket="first", Key="absent")
    except ClientError:
        pass
    s3.delete_object(Bucket="first", Key="big")
    s3.delete_objects(Bucket="first", Delete={"Objects": [{"Key": "copy"}, {"Key": "a key/ä"}]})
    s3.delete_bucket(Bucket="first")


s3.list_buckets()
print("ready", flush=True)
sys.stdin.readline()
deeds()
print("done", flush=True)
sys.stdin.readline()
