"""A session of boto3 with S3, as its users make it; asserts what comes back."""

import base64
import datetime
import hashlib
import http.client
import io
import os
import re
import urllib.request
import zlib

import boto3
import botocore
from boto3.s3.transfer import TransferConfig
from boto3_session import ACCOUNT, client, fails
from botocore.config import Config

MIB = 1024 * 1024


def options(**more):
    return {"config": Config(retries={"max_attempts": 1, "mode": "standard"}, **more)}


def s3_client(credentials=None, region=None, endpoint=None, **more):
    keys = dict(zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), credentials or ()))
    return boto3.client("s3", region_name=region, endpoint_url=endpoint, **keys, **options(**more))


def buckets(s3):
    made = s3.create_bucket(Bucket="first")
    assert made["Location"] == "/first", made
    s3.create_bucket(Bucket="first")
    s3.create_bucket(Bucket="other.one")
    listed = s3.list_buckets()
    assert [bucket["Name"] for bucket in listed["Buckets"]] == ["first", "other.one"], listed
    assert isinstance(listed["Buckets"][0]["CreationDate"], datetime.datetime)
    assert s3.head_bucket(Bucket="first")["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket="first")["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket="first")
    fails("404", s3.head_bucket, Bucket="nothing", http=404)
    fails("NoSuchBucket", s3.list_objects_v2, Bucket="nothing", http=404, text="The specified bucket does not exist")
    fails("InvalidBucketName", s3.create_bucket, Bucket="10.0.0.1", http=400)
    fails("IllegalLocationConstraintException", s3.create_bucket, Bucket="third", http=400,
          CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="other.one", Key="x", Body=b"")
    fails("BucketNotEmpty", s3.delete_bucket, Bucket="other.one", http=409)
    s3.delete_object(Bucket="other.one", Key="x")
    s3.delete_bucket(Bucket="other.one")
    fails("NotImplemented", s3.put_bucket_versioning, Bucket="first", VersioningConfiguration={"Status": "Enabled"}, http=501)
    fails("NotImplemented", s3.get_bucket_policy, Bucket="first", http=501)


def objects(s3):
    body = os.urandom(100_000)
    put = s3.put_object(
        Bucket="first", Key="a/ü b+c?.bin", Body=body, ContentType="text/x-test", CacheControl="no-store",
        ContentDisposition="attachment", Metadata={"Name": "value", "other": "x y"}, Tagging="k=v&l=w%20x")
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', put
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert put["ChecksumCRC32"] == crc and put["ChecksumType"] == "FULL_OBJECT", put
    got = s3.get_object(Bucket="first", Key="a/ü b+c?.bin", ChecksumMode="ENABLED")
    assert got["Body"].read() == body and got["ChecksumCRC32"] == crc, got
    assert got["ContentType"] == "text/x-test" and got["Metadata"] == {"name": "value", "other": "x y"}, got
    assert got["CacheControl"] == "no-store" and got["TagCount"] == 2 and got["AcceptRanges"] == "bytes", got
    head = s3.head_object(Bucket="first", Key="a/ü b+c?.bin")
    assert head["ContentLength"] == 100_000 and head["ETag"] == put["ETag"], head
    for range_, part in [("bytes=10-19", body[10:20]), ("bytes=-5", body[-5:]), ("bytes=99990-", body[99990:])]:
        answer = s3.get_object(Bucket="first", Key="a/ü b+c?.bin", Range=range_)
        assert answer["Body"].read() == part and answer["ResponseMetadata"]["HTTPStatusCode"] == 206, range_
    assert s3.get_object(Bucket="first", Key="a/ü b+c?.bin", Range="bytes=0-0")["ContentRange"] == "bytes 0-0/100000"
    fails("InvalidRange", s3.get_object, Bucket="first", Key="a/ü b+c?.bin", Range="bytes=100000-", http=416)
    key = {"Bucket": "first", "Key": "a/ü b+c?.bin"}
    fails("304", s3.get_object, **key, IfNoneMatch=put["ETag"], http=304)
    fails("304", s3.head_object, **key, IfModifiedSince=head["LastModified"], http=304)
    fails("PreconditionFailed", s3.get_object, **key, IfMatch='"0"', http=412)
    fails("412", s3.head_object, **key, IfUnmodifiedSince=datetime.datetime(2020, 1, 1), http=412)
    assert s3.get_object(**key, IfMatch=put["ETag"], ResponseContentType="a/b")["ContentType"] == "a/b"
    fails("PreconditionFailed", s3.put_object, **key, Body=b"x", IfNoneMatch="*", http=412)
    s3.put_object(**key, Body=b"x", IfMatch=put["ETag"])
    fails("NoSuchKey", s3.get_object, Bucket="first", Key="none", http=404, text="The specified key does not exist.")
    fails("404", s3.head_object, Bucket="first", Key="none", http=404)
    fails("NoSuchBucket", s3.put_object, Bucket="nothing", Key="x", Body=b"x", http=404)
    fails("KeyTooLongError", s3.put_object, Bucket="first", Key="k" * 1025, Body=b"x", http=400)
    fails("NotImplemented", s3.put_object, **key, Body=b"x", ServerSideEncryption="aws:kms", http=501)
    fails("NotImplemented", s3.put_object, **key, Body=b"x", ACL="public-read", http=501)
    s3.put_object(**key, Body=b"x", ACL="private", StorageClass="STANDARD")
    s3.put_object_tagging(**key, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_object_tagging(**key)["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.delete_object_tagging(**key)
    assert s3.get_object_tagging(**key)["TagSet"] == []
    s3.delete_object(**key)
    s3.delete_object(**key)
    fails("NoSuchKey", s3.get_object, **key)


def checksums(s3):
    for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"):
        try:
            put = s3.put_object(Bucket="first", Key=algorithm, Body=b"hello", ChecksumAlgorithm=algorithm)
        except botocore.exceptions.MissingDependencyException:
            continue
        got = s3.get_object(Bucket="first", Key=algorithm, ChecksumMode="ENABLED")
        assert got["Body"].read() == b"hello" and got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]
        # From a stream: aws-chunked with a trailer.
        s3.upload_fileobj(io.BytesIO(b"hello"), "first", "stream", ExtraArgs={"ChecksumAlgorithm": algorithm})
        parts = s3.get_object_attributes(Bucket="first", Key="stream", ObjectAttributes=["Checksum", "ObjectSize", "ETag"])
        assert parts["Checksum"][f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"], parts
        assert parts["ObjectSize"] == 5 and parts["ETag"] == hashlib.md5(b"hello").hexdigest(), parts
    fails("BadDigest", s3.put_object, Bucket="first", Key="bad", Body=b"x", ChecksumCRC32="AAAAAA==", http=400)
    fails("BadDigest", s3.put_object, Bucket="first", Key="bad", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==", http=400)
    fails("InvalidDigest", s3.put_object, Bucket="first", Key="bad", Body=b"x", ContentMD5="x", http=400)
    fails("NoSuchKey", s3.get_object, Bucket="first", Key="bad")
    # Signed payloads, whole and without any.
    signed = s3_client(s3={"payload_signing_enabled": True}, request_checksum_calculation="when_required")
    signed.put_object(Bucket="first", Key="signed", Body=b"signed")
    assert signed.get_object(Bucket="first", Key="signed")["Body"].read() == b"signed"


def lists(s3):
    s3.create_bucket(Bucket="lists")
    names = [f"{folder}/{number}" for folder in "ab" for number in range(7)] + ["top", "with space+plus", "ctl\x01"]
    for name in names:
        s3.put_object(Bucket="lists", Key=name, Body=name.encode())
    for operation, key in [("list_objects_v2", "Contents"), ("list_objects", "Contents")]:
        pages = s3.get_paginator(operation).paginate(Bucket="lists", PaginationConfig={"PageSize": 4})
        found = [item["Key"] for page in pages for item in page.get(key, [])]
        assert found == sorted(names), (operation, found)
        pages = list(s3.get_paginator(operation).paginate(Bucket="lists", Delimiter="/", PaginationConfig={"PageSize": 2}))
        found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
        assert found == ["a/", "b/"] and sum(len(page.get(key, [])) for page in pages) == 3, (operation, pages)
    page = s3.list_objects_v2(Bucket="lists", Prefix="a/", StartAfter="a/3", MaxKeys=2, FetchOwner=True)
    assert [item["Key"] for item in page["Contents"]] == ["a/4", "a/5"] and page["IsTruncated"], page
    assert page["KeyCount"] == 2 and page["Contents"][0]["Owner"]["ID"] == "000000000000", page
    assert s3.list_objects_v2(Bucket="lists", MaxKeys=0)["KeyCount"] == 0
    fails("InvalidArgument", s3.list_objects_v2, Bucket="lists", ContinuationToken="?", http=400)
    gone = s3.delete_objects(Bucket="lists", Delete={"Objects": [{"Key": name} for name in names] + [{"Key": "none"}]})
    assert len(gone["Deleted"]) == len(names) + 1 and "Errors" not in gone, gone
    assert "Contents" not in s3.list_objects_v2(Bucket="lists")
    s3.delete_bucket(Bucket="lists")


def copies(s3):
    s3.put_object(Bucket="first", Key="from/ü", Body=b"content", ContentType="a/b", Metadata={"m": "1"}, Tagging="t=1")
    source = {"Bucket": "first", "Key": "from/ü"}
    copied = s3.copy_object(Bucket="first", Key="to", CopySource=source)
    assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(b"content").hexdigest()}"', copied
    head = s3.head_object(Bucket="first", Key="to")
    assert head["ContentType"] == "a/b" and head["Metadata"] == {"m": "1"}, head
    assert s3.get_object_tagging(Bucket="first", Key="to")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(Bucket="first", Key="to", CopySource=source, MetadataDirective="REPLACE", Metadata={"m": "2"},
                   ChecksumAlgorithm="SHA256")
    got = s3.get_object(Bucket="first", Key="to", ChecksumMode="ENABLED")
    assert got["Metadata"] == {"m": "2"} and got["ContentType"] == "binary/octet-stream" and "ChecksumSHA256" in got, got
    assert got["Body"].read() == b"content"
    fails("InvalidRequest", s3.copy_object, Bucket="first", Key="from/ü", CopySource=source, http=400, text="illegal")
    fails("NoSuchKey", s3.copy_object, Bucket="first", Key="to", CopySource={"Bucket": "first", "Key": "none"}, http=404)
    fails("PreconditionFailed", s3.copy_object, Bucket="first", Key="to", CopySource=source, CopySourceIfMatch='"0"', http=412)


def multipart(s3):
    body = os.urandom(20 * MIB + 17)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), "first", "big", Config=config)
    into = io.BytesIO()
    s3.download_fileobj("first", "big", into, Config=config)
    assert into.getvalue() == body
    head = s3.head_object(Bucket="first", Key="big", PartNumber=1)
    assert head["PartsCount"] == 5 and head["ContentLength"] == 5 * MIB and head["ETag"].endswith('-5"'), head
    parts = s3.get_object_attributes(Bucket="first", Key="big", ObjectAttributes=["ObjectParts", "Checksum"])
    assert parts["ObjectParts"]["TotalPartsCount"] == 5 and len(parts["ObjectParts"]["Parts"]) == 5, parts
    assert s3.get_object(Bucket="first", Key="big", PartNumber=5)["Body"].read() == body[20 * MIB:]
    assert s3.get_object(Bucket="first", Key="big", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}")["Body"].read() \
        == body[5 * MIB - 2:5 * MIB + 2]

    where = {"Bucket": "first", "Key": "by-hand"}
    upload = s3.create_multipart_upload(**where, ContentType="x/y", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    id_ = {"UploadId": upload["UploadId"]}
    first = s3.upload_part(**where, **id_, PartNumber=3, Body=body[:5 * MIB])
    second = s3.upload_part_copy(**where, **id_, PartNumber=7, CopySource={"Bucket": "first", "Key": "big"},
                                 CopySourceRange=f"bytes={5 * MIB}-{5 * MIB + 9}")["CopyPartResult"]
    assert [part["PartNumber"] for part in s3.list_parts(**where, **id_)["Parts"]] == [3, 7]
    assert [one["Key"] for one in s3.list_multipart_uploads(Bucket="first")["Uploads"]] == ["by-hand"]
    named = [{"PartNumber": 3, "ETag": first["ETag"]}, {"PartNumber": 7, "ETag": second["ETag"]}]
    fails("InvalidPartOrder", s3.complete_multipart_upload, **where, **id_, MultipartUpload={"Parts": named[::-1]}, http=400)
    fails("InvalidPart", s3.complete_multipart_upload, **where, **id_, MultipartUpload={"Parts": [named[0] | {"ETag": "x"}]})
    fails("BadDigest", s3.complete_multipart_upload, **where, **id_, MultipartUpload={"Parts": named},
          ChecksumCRC32="AAAAAA==", http=400)
    whole = body[:5 * MIB + 10]
    crc = base64.b64encode(zlib.crc32(whole).to_bytes(4, "big")).decode()
    done = s3.complete_multipart_upload(**where, **id_, MultipartUpload={"Parts": named}, ChecksumCRC32=crc)
    assert done["ChecksumCRC32"] == crc and done["ChecksumType"] == "FULL_OBJECT", done
    assert s3.get_object(**where)["Body"].read() == whole and s3.head_object(**where)["ContentType"] == "x/y"
    fails("NoSuchUpload", s3.upload_part, **where, **id_, PartNumber=1, Body=b"x", http=404)

    upload = s3.create_multipart_upload(**where)
    id_ = {"UploadId": upload["UploadId"]}
    small = [{"PartNumber": n, "ETag": s3.upload_part(**where, **id_, PartNumber=n, Body=b"x")["ETag"]} for n in (1, 2)]
    fails("EntityTooSmall", s3.complete_multipart_upload, **where, **id_, MultipartUpload={"Parts": small}, http=400)
    s3.abort_multipart_upload(**where, **id_)
    fails("NoSuchUpload", s3.list_parts, **where, **id_, http=404)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="first")


def presigned_as_before(keys):
    """Version 2, which boto3 still makes in us-east-1 unless it is told otherwise."""
    for s3 in (s3_client(), s3_client(keys)):
        put = s3.generate_presigned_url("put_object", Params={"Bucket": "first", "Key": "ver sion/2", "ContentType": "a/b"})
        assert "AWSAccessKeyId=" in put, put
        request = urllib.request.Request(put, data=b"2", method="PUT", headers={"Content-Type": "a/b"})
        try:
            assert urllib.request.urlopen(request).status == 200
        except urllib.error.HTTPError as error:
            # The launcher's role has no right to it.
            assert "security-token" in put and error.code == 403 and b"s3:PutObject" in error.read(), error
    params = {"Bucket": "first", "Key": "ver sion/2", "ResponseContentType": "text/x y"}
    get = s3_client().generate_presigned_url("get_object", Params=params)
    with urllib.request.urlopen(get) as answer:
        assert answer.read() == b"2" and answer.headers["Content-Type"] == "text/x y"
    for url, text in [(get.replace("sion/2", "sion/3"), b"SignatureDoesNotMatch"),
                      (re.sub(r"Expires=\d+", "Expires=1000000000", get), b"Request has expired"),
                      (re.sub(r"AWSAccessKeyId=\w+", "AWSAccessKeyId=AKIAX", get), b"InvalidAccessKeyId")]:
        try:
            urllib.request.urlopen(url)
            raise AssertionError(url)
        except urllib.error.HTTPError as error:
            assert error.code == 403 and text in error.read(), url


def presigned(keys):
    s3 = s3_client(signature_version="s3v4")
    put = s3.generate_presigned_url("put_object", Params={"Bucket": "first", "Key": "pre signed", "ContentType": "a/b"})
    request = urllib.request.Request(put, data=b"by url", method="PUT", headers={"Content-Type": "a/b"})
    assert urllib.request.urlopen(request).status == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": "first", "Key": "pre signed"}, ExpiresIn=60)
    assert urllib.request.urlopen(get).read() == b"by url"
    for url, code, text in [(get.replace("Signature=", "Signature=0"), 403, b"SignatureDoesNotMatch"),
                            (get.replace("us-east-1", "eu-west-1"), 400, b"AuthorizationQueryParametersError"),
                            (get.split("?")[0] + "?X-Amz-Algorithm=x&X-Amz-Credential=a/20260101/us-east-1/s3/aws4_request",
                             400, b"AuthorizationQueryParametersError")]:
        try:
            urllib.request.urlopen(url)
            raise AssertionError(url)
        except urllib.error.HTTPError as error:
            assert error.code == code and text in error.read(), (url, error.code)
    session = s3_client(keys, signature_version="s3v4").generate_presigned_url("list_buckets")
    assert "X-Amz-Security-Token" in session


def hosts():
    endpoint = os.environ["AWS_ENDPOINT_URL"].replace("127.0.0.1", "localhost")
    port = int(endpoint.rsplit(":", 1)[1])
    # What the resolver of this machine makes of b.localhost does not matter here.
    url = s3_client(endpoint=endpoint, signature_version="s3v4", s3={"addressing_style": "virtual"}).generate_presigned_url(
        "get_object", Params={"Bucket": "first", "Key": "pre signed"})
    host, path = url.removeprefix("http://").split("/", 1)
    assert host == f"first.localhost:{port}", url
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/{path}", headers={"Host": host})
    assert connection.getresponse().read() == b"by url"
    connection.request("GET", "/x", headers={"Host": host})
    answer = connection.getresponse()
    assert answer.status == 403 and b"<Code>AccessDenied</Code>" in answer.read()


def refusals(s3):
    nobody = ("AKIANOBODYNOBODYNOBO", "secret")
    arn = "arn:aws:s3:::first"
    mine = s3_client(nobody)
    for action, resource, call, arguments in [
        ("ListAllMyBuckets", "arn:aws:s3:::*", mine.list_buckets, {}),
        ("CreateBucket", "arn:aws:s3:::new", mine.create_bucket, {"Bucket": "new"}),
        ("ListBucket", arn, mine.list_objects_v2, {"Bucket": "first"}),
        ("GetObject", f"{arn}/to", mine.get_object, {"Bucket": "first", "Key": "to"}),
        ("GetObject", f"{arn}/none", mine.get_object, {"Bucket": "first", "Key": "none"}),
        ("PutObject", f"{arn}/to", mine.put_object, {"Bucket": "first", "Key": "to", "Body": b"x"}),
        ("PutObject", f"{arn}/to", mine.create_multipart_upload, {"Bucket": "first", "Key": "to"}),
        ("DeleteObject", f"{arn}/to", mine.delete_object, {"Bucket": "first", "Key": "to"}),
        ("DeleteBucket", arn, mine.delete_bucket, {"Bucket": "first"}),
        ("GetObjectTagging", f"{arn}/to", mine.get_object_tagging, {"Bucket": "first", "Key": "to"}),
        ("ListBucketMultipartUploads", arn, mine.list_multipart_uploads, {"Bucket": "first"}),
        ("AbortMultipartUpload", f"{arn}/to", mine.abort_multipart_upload, {"Bucket": "first", "Key": "to", "UploadId": "x"}),
    ]:
        fails("AccessDenied", call, http=403, text=f"User: {ACCOUNT}:user/nobody is not authorized to perform: s3:{action} "
              f'on resource: "{resource}" because no identity-based policy allows the s3:{action} action', **arguments)
    errors = mine.delete_objects(Bucket="first", Delete={"Objects": [{"Key": "to"}]})["Errors"]
    assert errors[0]["Code"] == "AccessDenied", errors
    reader = s3_client(("AKIAREADERREADERREAD", "secret"))
    assert reader.get_object(Bucket="first", Key="to")["Body"].read() == b"content"
    fails("AccessDenied", reader.get_object, Bucket="first", Key="none", http=403, text="s3:ListBucket")
    fails("AccessDenied", reader.put_object, Bucket="first", Key="to", Body=b"x", http=403)
    assert reader.list_objects_v2(Bucket="first", Prefix="to")["KeyCount"] == 1
    fails("AccessDenied", reader.list_objects_v2, Bucket="first", Prefix="from")
    fails("AccessDenied", s3.get_object, Bucket="first", Key="to", ExpectedBucketOwner="111111111111", http=403)

    wrong = s3_client((os.environ["AWS_ACCESS_KEY_ID"], "wrong"))
    fails("SignatureDoesNotMatch", wrong.list_buckets, http=403)
    fails("InvalidAccessKeyId", s3_client(("AKIASTRANGERSTRANGER", "x")).list_buckets, http=403)
    fails("InvalidToken", s3_client((os.environ["AWS_ACCESS_KEY_ID"], "x", "forged")).list_buckets, http=400)
    elsewhere = fails("AuthorizationHeaderMalformed", s3_client(region="eu-west-1").list_buckets, http=400)
    assert elsewhere["Error"]["Region"] == "us-east-1", elsewhere
    import botocore.auth
    real, botocore.auth.get_current_datetime = botocore.auth.get_current_datetime, \
        lambda **_: datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - datetime.timedelta(hours=1)
    skewed = fails("RequestTimeTooSkewed", s3_client().list_buckets, http=403)
    assert skewed["Error"]["MaxAllowedSkewMilliseconds"] == "900000", skewed
    botocore.auth.get_current_datetime = real


def main():
    s3 = s3_client()
    buckets(s3)
    objects(s3)
    checksums(s3)
    lists(s3)
    copies(s3)
    multipart(s3)
    role = client("sts").assume_role(RoleArn=f"{ACCOUNT}:role/warren-launcher", RoleSessionName="s3")
    keys = [role["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    presigned_as_before(keys)
    presigned(keys)
    hosts()
    refusals(s3)
    print("all good")


main()
