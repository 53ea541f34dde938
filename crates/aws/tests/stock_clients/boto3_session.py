"""A session of boto3 with every operation, as a user would make it; asserts what comes back."""

import datetime
import json
import os
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(retries={"max_attempts": 1, "mode": "standard"})
ACCOUNT = "arn:aws:iam::000000000000"
IMAGE = "arn:aws:lambda:us-east-1:000000000000:microvm-image:claude-worker"
CONNECTOR = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:"
EXECUTION = f"{ACCOUNT}:role/warren-execution"


def client(service, credentials=None, **more):
    if credentials:
        more |= dict(zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), credentials))
    return boto3.client(service, config=CONFIG, **more)


def fails(code, call, *, http=None, text=None, **arguments):
    try:
        answer = call(**arguments)
    except ClientError as error:
        response = error.response
        assert response["Error"]["Code"] == code, (code, response)
        if http:
            assert response["ResponseMetadata"]["HTTPStatusCode"] == http, response
        if text is not None:
            assert text in response["Error"]["Message"], (text, response)
        return response
    raise AssertionError(f"{call} answered {answer} instead of {code}")


def until(check, what):
    for _ in range(300):
        if value := check():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


def microvms(vms):
    run = vms.run_microvm(
        imageIdentifier=IMAGE, imageVersion="1.0", executionRoleArn=EXECUTION,
        idlePolicy={"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 0, "autoResumeEnabled": False},
        runHookPayload='{"version":"1"}', maximumDurationInSeconds=3600, clientToken="token-1",
        logging={"cloudWatch": {"logGroup": "/mine"}},
        ingressNetworkConnectors=[CONNECTOR + "ALL_INGRESS"], egressNetworkConnectors=[CONNECTOR + "INTERNET_EGRESS"],
    )
    assert run["state"] == "PENDING" and run["imageArn"] == IMAGE and run["imageVersion"] == "1.0", run
    assert run["executionRoleArn"] == EXECUTION and run["maximumDurationInSeconds"] == 3600, run
    assert run["idlePolicy"] == {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 0, "autoResumeEnabled": False}
    assert run["endpoint"].endswith(".lambda-microvm.us-east-1.on.aws"), run
    assert isinstance(run["startedAt"], datetime.datetime), run
    assert run["ingressNetworkConnectors"] == [CONNECTOR + "ALL_INGRESS"], run
    vm = run["microvmId"]

    until(lambda: vms.get_microvm(microvmIdentifier=vm)["state"] == "RUNNING", "RUNNING")
    plain = vms.run_microvm(imageIdentifier="claude-worker")
    assert plain["ingressNetworkConnectors"] == [CONNECTOR + "HTTP_INGRESS"], plain
    assert plain["egressNetworkConnectors"] == [CONNECTOR + "INTERNET_EGRESS"], plain
    assert plain["maximumDurationInSeconds"] == 28800 and "idlePolicy" not in plain, plain

    first = vms.list_microvms(maxResults=1, imageIdentifier=IMAGE)
    second = vms.list_microvms(maxResults=1, imageIdentifier=IMAGE, nextToken=first["nextToken"])
    ids = [page["items"][0]["microvmId"] for page in (first, second)]
    assert ids == [plain["microvmId"], vm], ids
    assert set(first["items"][0]) == {"microvmId", "state", "imageArn", "imageVersion", "startedAt"}
    assert not vms.list_microvms(imageVersion="2.0")["items"]
    pages = vms.get_paginator("list_microvms").paginate(PaginationConfig={"PageSize": 1})
    assert len([item for page in pages for item in page["items"]]) == 2

    assert vms.terminate_microvm(microvmIdentifier=vm)
    ended = until(lambda: (got := vms.get_microvm(microvmIdentifier=vm))["state"] == "TERMINATED" and got, "TERMINATED")
    assert ended["stateReason"] == "Success." and ended["terminatedAt"] >= ended["startedAt"], ended
    assert vms.terminate_microvm(microvmIdentifier=vm)
    fails("ValidationException", vms.suspend_microvm, microvmIdentifier=vm, http=400,
          text=f"The MicroVM {vm} has been terminated and its state cannot be changed.")
    return plain["microvmId"]


def wire(vms, microvm):
    """What the client does not show: nulls where nothing is set, header names, numbers."""
    answers = []
    vms.meta.events.register("before-parse.lambda-microvms", lambda response_dict, **_: answers.append(response_dict))
    vms.get_microvm(microvmIdentifier=microvm)
    body = json.loads(answers[-1]["body"])
    for member in ("stateReason", "terminationReasonCode", "terminatedAt", "idlePolicy", "executionRoleArn"):
        assert body[member] is None, body
    assert isinstance(body["startedAt"], float), body
    vms.list_microvms(imageVersion="2.0")
    assert json.loads(answers[-1]["body"]) == {"items": [], "nextToken": None}, answers[-1]
    fails("ResourceNotFoundException", vms.get_microvm, microvmIdentifier="x")
    assert json.loads(answers[-1]["body"]) == {
        "message": "MicroVM not found: x", "resourceId": None, "resourceType": None}, answers[-1]
    headers = answers[-1]["headers"]
    assert headers["x-amzn-errortype"] == "ResourceNotFoundException" and len(headers["x-amzn-requestid"]) == 36, headers
    assert vms.terminate_microvm(microvmIdentifier=vms.run_microvm(imageIdentifier=IMAGE)["microvmId"])
    assert answers[-1]["body"] == b"{}", answers[-1]


def endpoint_tokens(vms, unknown):
    fails("ResourceNotFoundException", vms.create_microvm_auth_token, microvmIdentifier=unknown, http=404,
          expirationInMinutes=5, allowedPorts=[{"allPorts": {}}])
    id = vms.run_microvm(imageIdentifier=IMAGE)["microvmId"]
    kinds = [{"port": 8080}, {"range": {"startPort": 9000, "endPort": 9010}}, {"allPorts": {}}]
    token = vms.create_microvm_auth_token(microvmIdentifier=id, expirationInMinutes=60, allowedPorts=kinds)["authToken"]
    assert list(token) == ["X-aws-proxy-auth"] and token["X-aws-proxy-auth"].count(".") == 4, token
    fails("ValidationException", vms.create_microvm_auth_token, microvmIdentifier=id, http=400, expirationInMinutes=61,
          allowedPorts=kinds, text="ExpirationMinutes 61 exceeded max allowed of 60.")
    fails("ValidationException", vms.create_microvm_auth_token, microvmIdentifier=id, expirationInMinutes=1,
          allowedPorts=[{"range": {"startPort": 9, "endPort": 8}}], text="the range begins with 9")
    fails("ValidationException", vms.create_microvm_shell_auth_token, microvmIdentifier=id, http=400,
          expirationInMinutes=5, text="Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.")
    id = vms.run_microvm(imageIdentifier=IMAGE, ingressNetworkConnectors=[CONNECTOR + "SHELL_INGRESS"])["microvmId"]
    assert vms.create_microvm_shell_auth_token(microvmIdentifier=id, expirationInMinutes=5)["authToken"]["X-aws-proxy-auth"]


def microvm_errors(vms):
    unknown = "microvm-6f6b1a52-1111-4111-8111-111111111111"
    missing = fails("ResourceNotFoundException", vms.get_microvm, microvmIdentifier=unknown, http=404,
                    text=f"MicroVM not found: {unknown}")
    assert missing.get("resourceId") is None and missing["ResponseMetadata"]["RequestId"], missing
    fails("ResourceNotFoundException", vms.terminate_microvm, microvmIdentifier="nonsense", http=404)
    fails("ValidationException", vms.run_microvm, imageIdentifier="no-such-image", http=400,
          text="Malformed ARN - doesn't start with 'arn:'")
    fails("ResourceNotFoundException", vms.run_microvm, imageIdentifier=IMAGE.replace("worker", "x"),
          text="No active version found for MicroVM image " + IMAGE.replace("worker", "x"))
    fails("ResourceNotFoundException", vms.run_microvm, imageIdentifier=IMAGE, imageVersion="7.0",
          text=f"No active version found for MicroVM image {IMAGE} and version 7.0")
    fails("AccessDeniedException", vms.run_microvm, http=403,
          imageIdentifier="arn:aws:lambda:us-east-1:111111111111:microvm-image:claude-worker")
    fails("AccessDeniedException", vms.run_microvm, imageIdentifier=IMAGE.replace("image:", "image/"), http=403)
    fails("ValidationException", vms.run_microvm, imageIdentifier=IMAGE, clientToken="token-1",
          text="The provided clientToken was used with different request parameters.")
    fails("ValidationException", vms.run_microvm, imageIdentifier=IMAGE, text="Only one egress network connector",
          egressNetworkConnectors=[CONNECTOR + "INTERNET_EGRESS"] * 2)
    fails("ValidationException", vms.run_microvm, imageIdentifier=IMAGE, egressNetworkConnectors=["x"],
          text="Malformed network connector ARN")
    fails("ValidationException", vms.run_microvm, imageIdentifier=IMAGE, ingressNetworkConnectors=[CONNECTOR + "X"],
          text=f"Unrecognized managed network connector ARN: {CONNECTOR}X")
    for role in ("warren-nobody", "warren-launcher"):
        fails("AccessDeniedException", vms.run_microvm, imageIdentifier=IMAGE, http=403,
              executionRoleArn=f"{ACCOUNT}:role/{role}", text=f"iam:PassRole on resource: {ACCOUNT}:role/{role}")
    fails("ValidationException", vms.list_microvms, nextToken="nonsense", http=400)
    endpoint_tokens(vms, unknown)

    # The model's constraints, past the client's own check of them.
    loose = boto3.client("lambda-microvms", config=CONFIG.merge(Config(parameter_validation=False)))
    fails("ValidationException", loose.run_microvm, maximumDurationInSeconds=28801, clientToken="",
          text="3 validation errors detected: Value null at 'imageIdentifier' failed to satisfy constraint: "
               "Member must not be null; Value '28801' at 'maximumDurationInSeconds' failed to satisfy constraint: "
               "Member must have value less than or equal to 28800; Value '' at 'clientToken'")
    fails("ValidationException", loose.list_microvms, maxResults=51, http=400,
          text="1 validation error detected: Value '51' at 'maxResults' failed to satisfy constraint: "
               "Member must have value less than or equal to 50")
    payload = fails("ValidationException", loose.run_microvm, imageIdentifier=IMAGE, runHookPayload="s" * 4097)
    assert "ssss" not in payload["Error"]["Message"], payload
    loose.run_microvm(imageIdentifier=IMAGE, runHookPayload="s" * 4096)


def images(vms):
    image = vms.get_microvm_image(imageIdentifier="claude-worker")
    assert image["imageArn"] == IMAGE and image["state"] == "CREATED", image
    assert image["latestActiveImageVersion"] == "1.0" and image["tags"] == {}, image
    assert [item["name"] for item in vms.list_microvm_images(nameFilter="worker")["items"]] == ["claude-worker"]
    assert not vms.list_microvm_images(nameFilter="nothing")["items"]
    version = vms.get_microvm_image_version(imageIdentifier=IMAGE, imageVersion="1.0")
    assert version["state"] == "SUCCESSFUL" and version["status"] == "ACTIVE", version
    assert version["resources"] == [{"minimumMemoryInMiB": 512}] and version["hooks"]["port"] == 9000, version
    assert version["hooks"]["microvmHooks"]["run"] == "ENABLED", version
    assert version["environmentVariables"] == {"KEY": "value"}, version
    listed = vms.list_microvm_image_versions(imageIdentifier=IMAGE)["items"]
    assert [item["imageVersion"] for item in listed] == ["1.0"], listed
    builds = vms.list_microvm_image_builds(imageIdentifier=IMAGE, imageVersion="1")["items"]
    build = vms.get_microvm_image_build(imageIdentifier=IMAGE, imageVersion="1.0", buildId=builds[0]["buildId"])
    assert build["buildState"] == "SUCCESSFUL" and build["snapshotBuild"]["codeInstallSizeInBytes"] == 186, build
    managed = vms.list_managed_microvm_images()["items"]
    assert managed[0]["imageArn"].endswith(":aws:microvm-image:al2023-1"), managed
    versions = vms.list_managed_microvm_image_versions(imageIdentifier=managed[0]["imageArn"])["items"]
    assert versions[0]["status"] == "AVAILABLE", versions
    fails("ValidationException", vms.get_microvm_image, imageIdentifier="none", text="Invalid ARN format: none")
    gone = IMAGE.replace("worker", "none")
    fails("ResourceNotFoundException", vms.get_microvm_image, imageIdentifier=gone, http=404,
          text=f"MicroVMImage not found for MicroVMImageID: {gone}")
    fails("ResourceNotFoundException", vms.get_microvm_image_version, imageIdentifier=IMAGE, imageVersion="9.0",
          text=f"MicroVMImage not found for MicroVMImage: {IMAGE}, Version: 9.0")
    inactive = vms.update_microvm_image_version(imageIdentifier=IMAGE, imageVersion="1.0", status="INACTIVE")
    assert inactive["status"] == "INACTIVE", inactive
    fails("ResourceNotFoundException", vms.run_microvm, imageIdentifier=IMAGE, text="No active version found")
    vms.update_microvm_image_version(imageIdentifier=IMAGE, imageVersion="1.0", status="ACTIVE")
    fails("ValidationException", vms.delete_microvm_image_version, imageIdentifier=IMAGE, imageVersion="1.0",
          text="This is the last version. Please delete the entire image")
    fails("ValidationException", vms.delete_microvm_image, imageIdentifier=IMAGE,
          text="Cannot delete microvm image with running microvms.")


BASE = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"
FULL = {
    "baseImageArn": BASE, "baseImageVersion": "1", "buildRoleArn": f"{ACCOUNT}:role/warren-build", "description": "d",
    "codeArtifact": {"uri": "s3://artifacts/app.zip"}, "logging": {"cloudWatch": {"logGroup": "/g", "logStream": "s"}},
    "egressNetworkConnectors": [CONNECTOR + "INTERNET_EGRESS"], "cpuConfigurations": [{"architecture": "X86_64"}],
    "resources": [{"minimumMemoryInMiB": 1024}], "additionalOsCapabilities": ["ALL"],
    "hooks": {"port": 9000,
              "microvmHooks": {"run": "ENABLED", "runTimeoutInSeconds": 5, "resume": "DISABLED", "resumeTimeoutInSeconds": 7},
              "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 300}},
    "environmentVariables": {"A": "1"},
}


def built(vms, image):
    def settled():
        state = vms.get_microvm_image(imageIdentifier=image)["state"]
        return state if state not in ("CREATING", "UPDATING") else None
    return until(settled, f"the build of {image}")


def new_images(vms):
    made = vms.create_microvm_image(name="made", tags={"team": "x"}, clientToken="c-1", **FULL)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201, made
    assert made["state"] == "CREATING" and made["imageVersion"] == "1.0" and made["tags"] == {"team": "x"}, made
    assert "latestActiveImageVersion" not in made, made
    again = vms.create_microvm_image(name="made", tags={"team": "x"}, clientToken="c-1", **FULL)
    assert again["imageArn"] == made["imageArn"] and again["imageVersion"] == "1.0", again
    fails("ValidationException", vms.create_microvm_image, name="other", clientToken="c-1", http=400, **FULL)
    fails("ValidationException", vms.create_microvm_image, name="made", http=400, **FULL,
          text="A MicroVM image with the name 'made' already exists in this account")
    assert built(vms, "made") == "CREATED"
    version = vms.get_microvm_image_version(imageIdentifier=made["imageArn"], imageVersion="1.0")
    for answer in (made, version):
        for member, value in FULL.items():
            expected = "1.0" if member == "baseImageVersion" else value
            assert answer[member] == expected, (member, answer[member])
    assert version["state"] == "SUCCESSFUL" and version["status"] == "ACTIVE", version

    small = {key: FULL[key] for key in ("baseImageArn", "buildRoleArn", "codeArtifact")}
    updated = vms.update_microvm_image(imageIdentifier="made", clientToken="u-1", **small)
    assert updated["state"] == "UPDATING" and updated["imageVersion"] == "2.0", updated
    assert updated["resources"] == [{"minimumMemoryInMiB": 2048}] and "hooks" not in updated, updated
    assert updated["egressNetworkConnectors"] == [CONNECTOR + "INTERNET_EGRESS"] and updated["latestActiveImageVersion"] == "1.0"
    assert built(vms, "made") == "UPDATED"
    assert vms.update_microvm_image(imageIdentifier="made", clientToken="u-1", **small)["imageVersion"] == "2.0"
    assert vms.get_microvm_image(imageIdentifier="made")["latestActiveImageVersion"] == "2.0"
    broken = vms.update_microvm_image(imageIdentifier="made", **small | {"codeArtifact": {"uri": "s3://artifacts/absent"}})
    assert built(vms, "made") == "UPDATE_FAILED", broken
    failed = vms.get_microvm_image_version(imageIdentifier="made", imageVersion="3.0")
    assert failed["state"] == "FAILED" and failed["status"] == "INACTIVE", failed
    build = vms.list_microvm_image_builds(imageIdentifier="made", imageVersion="3.0")["items"][0]
    assert build["stateReason"].startswith("S3_NO_SUCH_KEY: s3://artifacts/absent is not there."), build

    bad = lambda text, **change: fails("ValidationException", vms.create_microvm_image, http=400, text=text,
                                       **{"name": "bad"} | small | change)
    bad("CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>",
        codeArtifact={"uri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/app"})
    bad("[512, 1024, 2048, 4096, 8192", resources=[{"minimumMemoryInMiB": 3000}])
    bad(f"No managed MicroVM Image with arn {BASE} and version 999 is available", baseImageVersion="999")
    bad("Environment variable key 'AWS_REGION' is reserved", environmentVariables={"AWS_REGION": "x"})
    bad("The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook",
        hooks={"port": 1, "microvmHooks": {"run": "ENABLED"}})
    bad("ARM_64", cpuConfigurations=[{"architecture": "ARM_64"}])
    fails("AccessDeniedException", vms.create_microvm_image, http=403, text="iam:PassRole", name="bad",
          **small | {"buildRoleArn": f"{ACCOUNT}:role/warren-launcher"})
    fails("ValidationException", vms.update_microvm_image, imageIdentifier="none", text="Invalid ARN format: none", **small)
    fails("ResourceNotFoundException", vms.update_microvm_image, imageIdentifier=IMAGE.replace("worker", "none"), http=404, **small)

    deleted = vms.delete_microvm_image_version(imageIdentifier="made", imageVersion="1.0")
    assert deleted["state"] == "DELETING" and deleted["imageVersion"] == "1.0", deleted
    built(vms, "made")
    deleted = vms.delete_microvm_image(imageIdentifier="made")
    assert deleted["state"] == "DELETING" and deleted["imageIdentifier"] == made["imageArn"], deleted
    def gone():
        try:
            vms.get_microvm_image(imageIdentifier=made["imageArn"])
        except vms.exceptions.ResourceNotFoundException:
            return True
    until(gone, "the end of the image")
    assert vms.delete_microvm_image(imageIdentifier=made["imageArn"])["state"] == "DELETING"


def tags(vms, resource):
    before = vms.list_tags(Resource=resource)["Tags"]
    answer = vms.tag_resource(Resource=resource, Tags={"stage": "dev", "owner": "a b"})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204, answer
    vms.tag_resource(Resource=resource, Tags={"stage": "prod"})
    assert vms.list_tags(Resource=resource)["Tags"] == before | {"stage": "prod", "owner": "a b"}
    answer = vms.untag_resource(Resource=resource, TagKeys=["owner", "absent"])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204, answer
    vms.untag_resource(Resource=resource, TagKeys=["owner"])
    assert vms.list_tags(Resource=resource)["Tags"] == before | {"stage": "prod"}

    # Rights by tag, of the resource and of the request.
    tagged = client("lambda-microvms", ("AKIATAGGEDTAGGEDTAGG", "secret"))
    fails("AccessDeniedException", tagged.list_tags, Resource=resource, http=403)
    vms.tag_resource(Resource=resource, Tags={"team": "blue"})
    assert tagged.list_tags(Resource=resource)["Tags"]["team"] == "blue"
    tagged.tag_resource(Resource=resource, Tags={"team": "blue", "cost": "1"})
    fails("AccessDeniedException", tagged.tag_resource, Resource=resource, Tags={"team": "red"}, http=403)
    fails("AccessDeniedException", tagged.tag_resource, Resource=resource, Tags={"secret": "x", "team": "blue"}, http=403)
    vms.untag_resource(Resource=resource, TagKeys=["team", "cost", "stage"])


def tag_errors(vms):
    gone = IMAGE.replace("worker", "none")
    fails("ResourceNotFoundException", vms.list_tags, Resource=gone, http=404)
    fails("ResourceNotFoundException", vms.tag_resource, Resource=gone, Tags={"a": "b"}, http=404)
    fails("ResourceNotFoundException", vms.untag_resource, Resource=gone, TagKeys=["a"], http=404)
    fails("AccessDeniedException", vms.list_tags, Resource=IMAGE.replace("0000:", "0001:"), http=403)
    fails("InvalidParameterValueException", vms.tag_resource, Resource=IMAGE, http=400, text="at most 50 tags",
          Tags={f"k{n}": "v" for n in range(51)})
    assert vms.list_tags(Resource=IMAGE)["Tags"] == {}


def connectors(core, vms):
    answers = []
    core.meta.events.register("before-parse.lambda-core", lambda response_dict, **_: answers.append(response_dict))
    body = lambda: json.loads(answers[-1]["body"])
    role = f"{ACCOUNT}:role/warren-connector-operator"
    vpc = {"SubnetIds": ["subnet-0a"], "SecurityGroupIds": ["sg-0B"], "NetworkProtocol": "IPv4",
           "AssociatedComputeResourceTypes": ["MicroVm"], "ElasticIpConfiguration": {"Type": "None"}}
    request = {"Name": "net", "Configuration": {"VpcEgressConfiguration": vpc}, "OperatorRole": role, "ClientToken": "t-1"}
    made = core.create_network_connector(**request, Tags={"team": "x"})
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202 and made["State"] == "PENDING", made
    assert set(body()) == {"Arn", "Name", "Id", "Configuration", "OperatorRole", "State"}, body()
    assert made["Id"].startswith("nc-") and made["Arn"] == f"arn:aws:lambda:us-east-1:000000000000:network-connector:{made['Id']}"
    again = core.create_network_connector(**request, Tags={"team": "x"})
    assert again["Id"] == made["Id"] and again["State"] == "PENDING", again
    got = until(lambda: (got := core.get_network_connector(Identifier="net"))["State"] == "ACTIVE" and got, "ACTIVE")
    assert got["StateReason"] == "Initial creation" and got["Version"] == got["LatestVersion"] == 1, got
    assert got["Configuration"]["VpcEgressConfiguration"] == vpc and got["OperatorRole"] == role, got
    assert isinstance(got["LastModified"], datetime.datetime) and isinstance(body()["LastModified"], str), body()
    assert "Type" not in body() and "LastUpdateStatus" not in body(), body()
    for identifier in (made["Id"], made["Arn"], got["VersionArn"]):
        assert core.get_network_connector(Identifier=identifier)["Id"] == made["Id"]
    assert "LatestVersion" not in core.get_network_connector(Identifier=got["VersionArn"])

    same = core.update_network_connector(Identifier="net", Configuration=request["Configuration"])
    assert same["LastUpdateStatus"] == "Successful" and same["Version"] == 1, same
    assert same["LastUpdateStatusReason"] == "No configuration changes detected" and "StateReason" not in same, same
    updated = core.update_network_connector(
        Identifier="net", Configuration={"VpcEgressConfiguration": vpc | {"SubnetIds": ["subnet-1", "subnet-2"]}})
    assert updated["Version"] == 2 and updated["State"] == "ACTIVE" and updated["LastUpdateStatus"] == "InProgress", updated
    fails("ResourceConflictException", core.delete_network_connector, Identifier="net", http=409)
    until(lambda: core.get_network_connector(Identifier="net")["LastUpdateStatus"] == "Successful", "Successful")
    versions = core.list_network_connector_versions(Identifier="net")["NetworkConnectorVersions"]
    assert [version["Version"] for version in versions] == [2, 1], versions
    tags(vms, made["Arn"])

    run = vms.run_microvm(imageIdentifier=IMAGE, egressNetworkConnectors=[made["Arn"]])
    assert run["egressNetworkConnectors"] == [made["Arn"]], run
    vms.terminate_microvm(microvmIdentifier=run["microvmId"])
    fails("ValidationException", vms.run_microvm, imageIdentifier=IMAGE, ingressNetworkConnectors=[made["Arn"]], text="VPC_EGRESS")
    fails("ResourceNotFoundException", vms.run_microvm, imageIdentifier=IMAGE, http=404,
          egressNetworkConnectors=[made["Arn"][:-1] + "z"])
    connector_errors(core, request, answers)

    listed = core.list_network_connectors(State="ACTIVE", MaxItems=1)
    item = listed["NetworkConnectors"][0]
    assert item["Type"] == "VPC_EGRESS" and item["Name"] == "net" and item["LatestVersion"] == 2, item
    assert "NextMarker" not in body(), body()
    core.delete_network_connector(Identifier=f"{made['Arn']}:1")
    fails("InvalidParameterValueException", core.delete_network_connector, Identifier=f"{made['Arn']}:2", http=400)
    deleted = core.delete_network_connector(Identifier="net")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 202 and deleted["State"] == "DELETING", deleted
    until(lambda: not core.list_network_connectors()["NetworkConnectors"], "the end of the connector")
    fails("ResourceNotFoundException", core.get_network_connector, Identifier="net", http=404)
    assert body()["Message"] == "Network connector not found for: arn:aws:lambda:us-east-1:000000000000:network-connector:net", body()


def connector_errors(core, request, answers):
    def bad(code, text, http=400, **change):
        fails(code, core.create_network_connector, http=http, text=text, **request | {"Name": "bad", "ClientToken": "bad"} | change)
    vpc = request["Configuration"]["VpcEgressConfiguration"]
    def vpc_without(member):
        return {"VpcEgressConfiguration": {name: value for name, value in vpc.items() if name != member}}
    invalid = "InvalidParameterValueException"
    for member in ("NetworkProtocol", "AssociatedComputeResourceTypes"):
        bad(invalid, f"{member} is a required field", Configuration=vpc_without(member))
    bad(invalid, "Encountered unauthorized operation while calling EC2 due to invalid ConnectorOperatorRole permissions",
        OperatorRole=f"{ACCOUNT}:role/warren-build")
    bad(invalid, "The service is unable to assume the provided NetworkConnectorOperatorRole.",
        OperatorRole=f"{ACCOUNT}:role/warren-launcher")
    bad(invalid, "clientToken was used with different request parameters", ClientToken="t-1")
    bad("ResourceConflictException", "already exists", http=409, Name="net")
    answer = fails("ResourceNotFoundException", core.delete_network_connector, Identifier="nc-x", http=404)
    assert answer["Error"]["Message"] == "" or "Network connector not found for" in str(answers[-1]["body"]), answer
    loose = boto3.client("lambda-core", config=CONFIG.merge(Config(parameter_validation=False)))
    fails("ValidationException", loose.create_network_connector, Name="n", http=400, ClientToken="x", OperatorRole=request["OperatorRole"],
          Configuration={"VpcEgressConfiguration": vpc | {"SubnetIds": ["subnet-1"] * 17}},
          text="' at 'configuration.vpcEgressConfiguration.subnetIds' failed to satisfy constraint: "
               "Member must have length less than or equal to 16")
    # An SDK makes a token where none is given, so its absence needs a client that makes none.
    without = {name: value for name, value in request.items() if name != "ClientToken"}
    loose.meta.events.register("before-call.lambda-core", lambda params, **_: params.update(
        body=json.dumps({k: v for k, v in json.loads(params["body"]).items() if k not in ("ClientToken",)})))
    fails("InvalidParameterValueException", loose.create_network_connector, http=400, text="ClientToken is a required field", **without)
    loose = boto3.client("lambda-core", config=CONFIG)
    fails("InvalidParameterValueException", loose.create_network_connector, http=400,
          text="NetworkConnectorOperatorRole is required for VPC_EGRESS connector type",
          **{name: value for name, value in request.items() if name != "OperatorRole"} | {"Name": "bad", "ClientToken": "x"})


def secrets(sm):
    made = sm.create_secret(Name="warren/environment-key", SecretString="k-1", Description="key",
                            Tags=[{"Key": "team", "Value": "x"}])
    assert made["ARN"].startswith("arn:aws:secretsmanager:us-east-1:000000000000:secret:warren/environment-key-"), made
    got = sm.get_secret_value(SecretId="warren/environment-key")
    assert got["SecretString"] == "k-1" and got["VersionStages"] == ["AWSCURRENT"], got
    assert got["VersionId"] == made["VersionId"] and isinstance(got["CreatedDate"], datetime.datetime), got
    put = sm.put_secret_value(SecretId=made["ARN"], SecretString="k-2")
    assert sm.get_secret_value(SecretId=made["ARN"])["SecretString"] == "k-2"
    assert sm.get_secret_value(SecretId=made["ARN"], VersionStage="AWSPREVIOUS")["SecretString"] == "k-1"
    assert sm.get_secret_value(SecretId=made["ARN"], VersionId=put["VersionId"])["SecretString"] == "k-2"
    described = sm.describe_secret(SecretId="warren/environment-key")
    assert described["Description"] == "key" and described["Tags"] == [{"Key": "team", "Value": "x"}], described
    assert described["VersionIdsToStages"][put["VersionId"]] == ["AWSCURRENT"], described
    sm.update_secret(SecretId="warren/environment-key", SecretBinary=b"\x00\xff")
    assert sm.get_secret_value(SecretId="warren/environment-key")["SecretBinary"] == b"\x00\xff"
    sm.create_secret(Name="warren/webhook-signing-secret", SecretString="whsec_1")
    names = [secret["Name"] for secret in sm.list_secrets()["SecretList"]]
    assert names == ["warren/environment-key", "warren/webhook-signing-secret"], names
    filtered = sm.list_secrets(Filters=[{"Key": "name", "Values": ["warren/web"]}])["SecretList"]
    assert [secret["Name"] for secret in filtered] == ["warren/webhook-signing-secret"], filtered
    fails("ResourceExistsException", sm.create_secret, Name="warren/environment-key", SecretString="x", http=400)
    fails("ResourceNotFoundException", sm.get_secret_value, SecretId="none", http=400,
          text="Secrets Manager can't find the specified secret.")
    fails("InvalidParameterException", sm.put_secret_value, SecretId="warren/environment-key")
    fails("ValidationException", sm.create_secret, Name="x", SecretString="x", KmsKeyId="k",
          text="Value at 'kmsKeyId' failed to satisfy constraint: Member is not available in this Warren")
    sm.create_secret(Name="short", SecretString="x")
    sm.delete_secret(SecretId="short", RecoveryWindowInDays=7)
    fails("InvalidRequestException", sm.get_secret_value, SecretId="short", text="marked for deletion")
    assert sm.describe_secret(SecretId="short")["DeletedDate"]
    sm.restore_secret(SecretId="short")
    assert sm.get_secret_value(SecretId="short")["SecretString"] == "x"
    sm.delete_secret(SecretId="short", ForceDeleteWithoutRecovery=True)
    fails("ResourceNotFoundException", sm.describe_secret, SecretId="short")


def secret_versions(sm):
    name = "warren/staged"
    first = sm.create_secret(Name=name, SecretString="1", Description="old")["VersionId"]
    second = sm.put_secret_value(SecretId=name, SecretString="2", VersionStages=["MINE"])["VersionId"]
    fails("InvalidParameterException", sm.update_secret_version_stage, SecretId=name, VersionStage="AWSCURRENT",
          MoveToVersionId=second, text=f"is currently attached to version {first}")
    fails("InvalidParameterException", sm.update_secret_version_stage, SecretId=name, VersionStage="AWSCURRENT",
          RemoveFromVersionId=first, text="can't be completely removed")
    sm.update_secret_version_stage(SecretId=name, VersionStage="AWSCURRENT", MoveToVersionId=second, RemoveFromVersionId=first)
    assert sm.get_secret_value(SecretId=name)["SecretString"] == "2"
    assert sm.get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS")["VersionId"] == first
    sm.update_secret_version_stage(SecretId=name, VersionStage="MINE", RemoveFromVersionId=second)
    stages = {version["VersionId"]: version["VersionStages"] for version in sm.list_secret_version_ids(SecretId=name)["Versions"]}
    assert stages == {first: ["AWSPREVIOUS"], second: ["AWSCURRENT"]}, stages
    sm.update_secret(SecretId=name, Description="new")
    sm.tag_resource(SecretId=name, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    sm.untag_resource(SecretId=name, TagKeys=["a"])
    described = sm.describe_secret(SecretId=name)
    assert described["Description"] == "new" and described["Tags"] == [{"Key": "b", "Value": "2"}], described
    batch = sm.batch_get_secret_value(SecretIdList=[name, "none"])
    assert [value["SecretString"] for value in batch["SecretValues"]] == ["2"], batch
    assert batch["Errors"][0]["ErrorCode"] == "ResourceNotFoundException", batch
    assert len(sm.batch_get_secret_value(Filters=[{"Key": "name", "Values": [name]}])["SecretValues"]) == 1
    password = sm.get_random_password(PasswordLength=4, ExcludePunctuation=True, IncludeSpace=True)["RandomPassword"]
    assert len(password) == 4 and " " in password and any(c.isdigit() for c in password), password
    assert sm.get_random_password(ExcludeCharacters="abc")["RandomPassword"].isprintable()
    sm.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def parameters(ssm):
    arn = "arn:aws:ssm:us-east-1:000000000000:parameter"
    put = ssm.put_parameter(Name="/app/db/host", Value="a.example", Type="String", Description="where", Tags=[{"Key": "k", "Value": "v"}])
    assert put["Version"] == 1 and put["Tier"] == "Standard", put
    fails("ParameterAlreadyExists", ssm.put_parameter, Name="/app/db/host", Value="b", Type="String", http=400)
    fails("HierarchyTypeMismatchException", ssm.put_parameter, Name="/app/db/host", Value="b", Type="StringList", Overwrite=True)
    assert ssm.put_parameter(Name="/app/db/host", Value="b.example", Overwrite=True)["Version"] == 2
    ssm.put_parameter(Name="/app/db/password", Value="s3cret", Type="SecureString")
    ssm.put_parameter(Name="/app/names", Value="a,b", Type="StringList", AllowedPattern="[a-z,]+")
    ssm.put_parameter(Name="plain", Value="x", Type="String")
    fails("ParameterPatternMismatchException", ssm.put_parameter, Name="/x", Value="X", Type="String", AllowedPattern="[a-z]+")
    fails("ValidationException", ssm.put_parameter, Name="/x", Value="x", text="A parameter type is required")
    fails("ValidationException", ssm.put_parameter, Name="aws/x", Value="x", Type="String", http=400)
    fails("ValidationException", ssm.put_parameter, Name="/x", Value="x" * 4097, Type="String", text="4096")
    assert ssm.put_parameter(Name="/large", Value="x" * 4097, Type="String", Tier="Intelligent-Tiering")["Tier"] == "Advanced"

    one = ssm.get_parameter(Name="/app/db/host")["Parameter"]
    assert one["Value"] == "b.example" and one["ARN"] == f"{arn}/app/db/host" and one["DataType"] == "text", one
    assert isinstance(one["LastModifiedDate"], datetime.datetime)
    old = ssm.get_parameter(Name="/app/db/host:1")["Parameter"]
    assert old["Value"] == "a.example" and old["Selector"] == ":1", old
    assert ssm.get_parameter(Name=f"{arn}/app/db/host")["Parameter"]["Version"] == 2
    assert ssm.get_parameter(Name="/app/db/password", WithDecryption=True)["Parameter"]["Value"] == "s3cret"
    assert "s3cret" not in ssm.get_parameter(Name="/app/db/password")["Parameter"]["Value"]
    fails("ParameterNotFound", ssm.get_parameter, Name="/none", http=400)
    fails("ParameterVersionNotFound", ssm.get_parameter, Name="/app/db/host:9")
    several = ssm.get_parameters(Names=["plain", "/none", "/app/names"])
    assert [p["Value"] for p in several["Parameters"]] == ["x", "a,b"] and several["InvalidParameters"] == ["/none"], several
    by_path = lambda **more: [p["Name"] for p in ssm.get_parameters_by_path(Path="/app", **more)["Parameters"]]
    assert by_path() == ["/app/names"], by_path()
    assert by_path(Recursive=True) == ["/app/db/host", "/app/db/password", "/app/names"]
    assert by_path(Recursive=True, ParameterFilters=[{"Key": "Type", "Values": ["SecureString"]}]) == ["/app/db/password"]
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/app", Recursive=True, PaginationConfig={"PageSize": 1})
    assert len([p for page in pages for p in page["Parameters"]]) == 3

    labelled = ssm.label_parameter_version(Name="/app/db/host", ParameterVersion=1, Labels=["stable", "1bad"])
    assert labelled == labelled | {"ParameterVersion": 1, "InvalidLabels": ["1bad"]}, labelled
    assert ssm.get_parameter(Name="/app/db/host:stable")["Parameter"]["Version"] == 1
    ssm.label_parameter_version(Name="/app/db/host", Labels=["stable"])
    history = ssm.get_parameter_history(Name="/app/db/host")["Parameters"]
    assert [(p["Version"], p["Labels"]) for p in history] == [(1, []), (2, ["stable"])], history
    assert history[0]["LastModifiedUser"] == f"{ACCOUNT}:user/operator" and history[1]["Description"] == "where", history
    assert ssm.unlabel_parameter_version(Name="/app/db/host", ParameterVersion=2, Labels=["stable"])["RemovedLabels"] == ["stable"]
    found = lambda *filters: [p["Name"] for p in ssm.describe_parameters(ParameterFilters=list(filters))["Parameters"]]
    assert found({"Key": "Path", "Option": "Recursive", "Values": ["/app"]}) == ["/app/db/host", "/app/db/password", "/app/names"]
    assert found({"Key": "tag:k", "Values": ["v"]}) == ["/app/db/host"]
    assert found({"Key": "Name", "Option": "Contains", "Values": ["pass"]}) == ["/app/db/password"]
    ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId="plain", Tags=[{"Key": "a", "Value": "b"}])
    assert ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="plain")["TagList"] == [{"Key": "a", "Value": "b"}]
    ssm.remove_tags_from_resource(ResourceType="Parameter", ResourceId="plain", TagKeys=["a"])
    assert ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="plain")["TagList"] == []
    ssm.delete_parameter(Name="plain")
    fails("ParameterNotFound", ssm.delete_parameter, Name="plain")
    gone = ssm.delete_parameters(Names=["/app/names", "/none"])
    assert gone["DeletedParameters"] == ["/app/names"] and gone["InvalidParameters"] == ["/none"], gone


def logs(cw):
    group, stream = "/aws/lambda-microvms/test", "2026/11/23[1.0]microvm-x"
    now = int(time.time() * 1000)
    cw.create_log_group(logGroupName=group)
    cw.create_log_stream(logGroupName=group, logStreamName=stream)
    lines = [{"timestamp": now + n, "message": f"line {n} {'ERROR' if n % 3 == 0 else 'fine'}"} for n in range(9)]
    cw.put_log_events(logGroupName=group, logStreamName=stream, logEvents=lines)
    got = cw.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
    assert [event["message"] for event in got["events"]] == [line["message"] for line in lines], got
    again = cw.get_log_events(logGroupName=group, logStreamName=stream, nextToken=got["nextForwardToken"])
    assert not again["events"] and again["nextForwardToken"] == got["nextForwardToken"], again
    errors = cw.filter_log_events(logGroupName=group, filterPattern="ERROR -\"line 3\"")["events"]
    assert [event["message"] for event in errors] == ["line 0 ERROR", "line 6 ERROR"], errors
    assert len({event["eventId"] for event in errors}) == 2 and errors[0]["logStreamName"] == stream
    pages = cw.get_paginator("filter_log_events").paginate(
        logGroupIdentifier=f"arn:aws:logs:us-east-1:000000000000:log-group:{group}", limit=4, startTime=now + 1)
    assert len([event for page in pages for event in page["events"]]) == 8
    assert [g["logGroupName"] for g in cw.describe_log_groups(logGroupNamePrefix=group)["logGroups"]] == [group]
    streams = cw.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)["logStreams"]
    assert streams[0]["firstEventTimestamp"] == now and streams[0]["lastEventTimestamp"] == now + 8, streams
    fails("ResourceAlreadyExistsException", cw.create_log_group, logGroupName=group, http=400)
    fails("ResourceNotFoundException", cw.filter_log_events, logGroupName="/none", text="The specified log group does not exist.")
    fails("InvalidParameterException", cw.filter_log_events, logGroupName=group, filterPattern="{ $.a }", text="a comparison is expected")
    events = [{"timestamp": now + 20, "message": json.dumps({"level": "ERROR", "code": 500})},
              {"timestamp": now + 21, "message": json.dumps({"level": "INFO", "code": 200})}]
    cw.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    for pattern, count in [('{ $.level = "ERROR" && $.code >= 500 }', 1), ("{ $.code = * }", 2), ("[word=line, number>3, ...]", 5),
                           ("%line [0-3]%", 4)]:
        matches = cw.filter_log_events(logGroupName=group, filterPattern=pattern)["events"]
        assert len(matches) == count, (pattern, matches)
    cw.put_retention_policy(logGroupName=group, retentionInDays=7)
    assert cw.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"] == 7
    fails("InvalidParameterException", cw.put_retention_policy, logGroupName=group, retentionInDays=8)
    cw.delete_retention_policy(logGroupName=group)
    assert "retentionInDays" not in cw.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{group}"
    cw.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
    cw.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert cw.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
    cw.delete_log_stream(logGroupName=group, logStreamName=stream)
    fails("ResourceNotFoundException", cw.delete_log_stream, logGroupName=group, logStreamName=stream)
    cw.delete_log_group(logGroupName=group)
    fails("ResourceNotFoundException", cw.delete_log_group, logGroupName=group)


def identities(vms, microvm):
    sts = client("sts")
    me = sts.get_caller_identity()
    assert me["Arn"] == f"{ACCOUNT}:user/operator" and me["Account"] == "000000000000", me
    role = sts.assume_role(RoleArn=f"{ACCOUNT}:role/warren-launcher", RoleSessionName="me@home", DurationSeconds=900,
                           Tags=[{"Key": "a", "Value": "b"}])
    assert role["AssumedRoleUser"]["Arn"] == "arn:aws:sts::000000000000:assumed-role/warren-launcher/me@home", role
    keys = [role["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    assert keys[0].startswith("ASIA") and isinstance(role["Credentials"]["Expiration"], datetime.datetime), role
    assert client("sts", keys).get_caller_identity()["UserId"] == role["AssumedRoleUser"]["AssumedRoleId"]

    launcher, who = client("lambda-microvms", keys), role["AssumedRoleUser"]["Arn"]
    launcher.run_microvm(imageIdentifier=IMAGE, executionRoleArn=EXECUTION)
    fails("AccessDeniedException", launcher.run_microvm, imageIdentifier=IMAGE, executionRoleArn=f"{ACCOUNT}:role/warren-build",
          text=f"User: {who} is not authorized to perform: iam:PassRole on resource: {ACCOUNT}:role/warren-build "
               "because no identity-based policy allows the iam:PassRole action")
    fails("AccessDeniedException", launcher.suspend_microvm, microvmIdentifier=microvm, http=403,
          text=f"User: {who} is not authorized to perform: lambda:SuspendMicrovm on resource: {IMAGE}")
    fails("AccessDeniedException", client("secretsmanager", keys).get_secret_value, SecretId="warren/environment-key", http=400)
    client("secretsmanager", keys).get_secret_value(SecretId="warren/webhook-signing-secret")

    # A session policy narrows the role.
    policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "lambda:List*", "Resource": "*"}}
    narrow = sts.assume_role(RoleArn=f"{ACCOUNT}:role/warren-launcher", RoleSessionName="narrow", Policy=json.dumps(policy))
    narrow = [narrow["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    client("lambda-microvms", narrow).list_microvms()
    fails("AccessDeniedException", client("lambda-microvms", narrow).get_microvm, microvmIdentifier=microvm,
          text="because no session policy allows the lambda:GetMicrovm action")

    fails("AccessDenied", sts.assume_role, RoleArn=EXECUTION, RoleSessionName="me", http=403,
          text=f"User: {ACCOUNT}:user/operator is not authorized to perform: sts:AssumeRole on resource: {EXECUTION}")
    fails("AccessDenied", client("sts", keys).assume_role, RoleArn=f"{ACCOUNT}:role/warren-launcher", RoleSessionName="me")
    fails("MalformedPolicyDocument", sts.assume_role, RoleArn=f"{ACCOUNT}:role/warren-launcher", RoleSessionName="me", Policy="{}")
    guarded = client("lambda-microvms", ("AKIAGUARDEDGUARDEDGU", "secret"))
    fails("AccessDeniedException", guarded.terminate_microvm, microvmIdentifier=microvm,
          text="with an explicit deny in an identity-based policy")
    return keys


def signatures(keys):
    for service, call, mismatch, unknown, expired in [
        ("lambda-microvms", "list_microvms", "InvalidSignatureException", "UnrecognizedClientException", 403),
        ("secretsmanager", "list_secrets", "InvalidSignatureException", "UnrecognizedClientException", 400),
        ("logs", "describe_log_groups", "InvalidSignatureException", "UnrecognizedClientException", 400),
        ("sts", "get_caller_identity", "SignatureDoesNotMatch", "InvalidClientTokenId", 403),
    ]:
        wrong = client(service, (os.environ["AWS_ACCESS_KEY_ID"], "wrong"))
        fails(mismatch, getattr(wrong, call), http=expired, text="The request signature we calculated does not match")
        stranger = client(service, ("AKIASTRANGERSTRANGER", "x"))
        fails(unknown, getattr(stranger, call), http=expired, text="The security token included in the request is invalid")
        forged = client(service, (keys[0], keys[1], keys[2][:-4] + "AAAA"))
        fails(unknown, getattr(forged, call), http=expired)
        elsewhere = client(service, region_name="eu-west-1")
        fails(mismatch, getattr(elsewhere, call), text="Credential should be scoped to a valid region")
    url = client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET", ExpiresIn=60)
    import urllib.request
    with urllib.request.urlopen(url) as answer:
        assert b"user/operator" in answer.read()


def without_rights(microvm):
    """Nobody gets an answer without a right to it, from any operation but one."""
    nobody = ("AKIANOBODYNOBODYNOBO", "secret")
    group = {"logGroupName": "/x"}
    stream = group | {"logStreamName": "s"}
    of_vm, of_image = {"microvmIdentifier": microvm}, {"imageIdentifier": IMAGE}
    of_group = {"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:/x"}
    named, tagged = {"Name": "/x"}, {"ResourceType": "Parameter", "ResourceId": "/x"}
    of_version = of_image | {"imageVersion": "1.0"}
    calls = {
        "lambda-microvms": {
            "run_microvm": of_image, "get_microvm": of_vm, "list_microvms": {}, "terminate_microvm": of_vm,
            "suspend_microvm": of_vm, "resume_microvm": of_vm, "get_microvm_image": of_image, "list_microvm_images": {},
            "delete_microvm_image": of_image, "get_microvm_image_version": of_version,
            "list_microvm_image_versions": of_image, "update_microvm_image_version": of_version | {"status": "ACTIVE"},
            "delete_microvm_image_version": of_version, "list_microvm_image_builds": of_version,
            "get_microvm_image_build": of_version | {"buildId": "x"}, "list_managed_microvm_images": {},
            "list_managed_microvm_image_versions": of_image,
            "create_microvm_image": FULL | {"name": "x"}, "update_microvm_image": FULL | of_image,
            "list_tags": {"Resource": IMAGE}, "tag_resource": {"Resource": IMAGE, "Tags": {"a": "b"}},
            "untag_resource": {"Resource": IMAGE, "TagKeys": ["a"]},
        },
        "lambda-core": {
            "create_network_connector": {"Name": "x", "Configuration": {"VpcEgressConfiguration": {"SubnetIds": ["subnet-1"]}}},
            "get_network_connector": {"Identifier": "x"}, "list_network_connectors": {},
            "update_network_connector": {"Identifier": "x"}, "delete_network_connector": {"Identifier": "x"},
            "list_network_connector_versions": {"Identifier": "x"},
        },
        "secretsmanager": {
            "create_secret": {"Name": "x", "SecretString": "x"}, "put_secret_value": {"SecretId": "x", "SecretString": "x"},
            "get_secret_value": {"SecretId": "warren/environment-key"}, "describe_secret": {"SecretId": "none"},
            "list_secrets": {}, "update_secret": {"SecretId": "x"}, "delete_secret": {"SecretId": "x"},
            "restore_secret": {"SecretId": "x"}, "update_secret_version_stage": {"SecretId": "x", "VersionStage": "y"},
            "list_secret_version_ids": {"SecretId": "x"}, "batch_get_secret_value": {"SecretIdList": ["x"]},
            "get_random_password": {}, "tag_resource": {"SecretId": "x", "Tags": []},
            "untag_resource": {"SecretId": "x", "TagKeys": []},
        },
        "logs": {
            "create_log_group": group, "create_log_stream": stream, "describe_log_groups": {}, "describe_log_streams": group,
            "put_log_events": stream | {"logEvents": [{"timestamp": 1, "message": "x"}]}, "get_log_events": stream,
            "filter_log_events": group, "delete_log_group": group, "delete_log_stream": stream,
            "put_retention_policy": group | {"retentionInDays": 1}, "delete_retention_policy": group,
            "tag_resource": of_group | {"tags": {"a": "b"}}, "untag_resource": of_group | {"tagKeys": ["a"]},
            "list_tags_for_resource": of_group,
        },
        "ssm": {
            "put_parameter": named | {"Value": "x", "Type": "String"}, "get_parameter": named, "delete_parameter": named,
            "get_parameters": {"Names": ["/x"]}, "delete_parameters": {"Names": ["/x"]}, "get_parameters_by_path": {"Path": "/x"},
            "get_parameter_history": named, "describe_parameters": {}, "label_parameter_version": named | {"Labels": ["l"]},
            "unlabel_parameter_version": named | {"ParameterVersion": 1, "Labels": ["l"]},
            "add_tags_to_resource": tagged | {"Tags": []}, "remove_tags_from_resource": tagged | {"TagKeys": []},
            "list_tags_for_resource": tagged,
        },
        "sts": {"assume_role": {"RoleArn": f"{ACCOUNT}:role/warren-launcher", "RoleSessionName": "me"}},
    }
    for service, operations in calls.items():
        mine = client(service, nobody)
        for operation, arguments in operations.items():
            code = "AccessDenied" if service == "sts" else "AccessDeniedException"
            fails(code, getattr(mine, operation), text="is not authorized to perform", **arguments)
    assert client("sts", nobody).get_caller_identity()["Arn"] == f"{ACCOUNT}:user/nobody"


def unknown_services():
    fails("UnknownOperationException", client("lambda").list_functions, http=404)
    fails("UnknownOperationException", client("dynamodb").list_tables, http=400)
    fails("UnknownOperationException", client("secretsmanager").rotate_secret, SecretId="x", http=400)
    fails("UnknownOperationException", client("ssm").list_documents, http=400)
    fails("InvalidAction", client("sts").get_session_token, http=400)
    fails("InvalidAction", client("iam").list_roles, http=400)


def main():
    vms = client("lambda-microvms")
    microvm = microvms(vms)
    wire(client("lambda-microvms"), microvm)
    microvm_errors(vms)
    images(vms)
    new_images(vms)
    tags(vms, IMAGE)
    tag_errors(vms)
    connectors(client("lambda-core"), vms)
    secrets(client("secretsmanager"))
    secret_versions(client("secretsmanager"))
    parameters(client("ssm"))
    logs(client("logs"))
    keys = identities(vms, microvm)
    signatures(keys)
    without_rights(microvm)
    unknown_services()
    print("all good")


if __name__ == "__main__":
    main()
