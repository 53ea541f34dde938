"""Every operation typed as for the AWS CLI, the sample's command lines among them; in one process, since a
start of the CLI takes a second."""

import contextlib
import io
import json
import shlex
import time

from awscli.clidriver import create_clidriver

IMAGE = "arn:aws:lambda:us-east-1:000000000000:microvm-image:claude-worker"
ROLE = "arn:aws:iam::000000000000:role/warren-"
MANAGED = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:"
BASE = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"
driver = create_clidriver()
typed = set()


def aws(line, *, exits=0):
    arguments = shlex.split(line)
    typed.add(tuple(arguments[:2]))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = driver.main(arguments)
        except SystemExit as ended:
            code = ended.code
    assert code == exits, (line, code, out.getvalue(), err.getvalue())
    if exits:
        return err.getvalue()
    return json.loads(out.getvalue()) if out.getvalue().strip() else None


def until(line, good):
    for _ in range(200):
        if good(answer := aws(line)):
            return answer
        time.sleep(0.05)
    raise AssertionError(line)


def images():
    # As the reference sample's build-image.sh types it, by bare name.
    base = aws("lambda-microvms list-managed-microvm-images")["items"][0]["imageArn"]
    assert base == BASE, base
    assert aws(f"lambda-microvms list-managed-microvm-image-versions --image-identifier {base}")["items"]
    aws("lambda-microvms get-microvm-image --image-identifier sample", exits=255)
    hooks = ('{"port":9000,"microvmImageHooks":{"ready":"ENABLED","readyTimeoutInSeconds":300,"validate":"ENABLED",'
             '"validateTimeoutInSeconds":300},"microvmHooks":{"run":"ENABLED","runTimeoutInSeconds":5,"resume":"ENABLED",'
             '"resumeTimeoutInSeconds":5,"suspend":"ENABLED","suspendTimeoutInSeconds":5,"terminate":"ENABLED",'
             '"terminateTimeoutInSeconds":5}}')
    common = (f"--base-image-arn {base} --build-role-arn {ROLE}build --code-artifact uri=s3://artifacts/deployments/app-1.zip "
              f"--hooks '{hooks}'")
    made = aws(f"lambda-microvms create-microvm-image --name sample {common} --tags team=x --resources minimumMemoryInMiB=1024 "
               "--environment-variables A=1,B=2")
    assert made["state"] == "CREATING" and made["environmentVariables"] == {"A": "1", "B": "2"}, made
    ready = lambda answer: answer["state"] in ("CREATED", "UPDATED")
    until("lambda-microvms get-microvm-image --image-identifier sample", ready)
    aws(f"lambda-microvms update-microvm-image --image-identifier sample {common}")
    until("lambda-microvms get-microvm-image --image-identifier sample", ready)
    versions = aws("lambda-microvms list-microvm-image-versions --image-identifier sample")["items"]
    assert [version["imageVersion"] for version in versions] == ["2.0", "1.0"], versions
    of = "--image-identifier sample --image-version 1.0"
    assert aws(f"lambda-microvms get-microvm-image-version {of}")["hooks"]["port"] == 9000
    assert aws(f"lambda-microvms update-microvm-image-version {of} --status INACTIVE")["status"] == "INACTIVE"
    build = aws(f"lambda-microvms list-microvm-image-builds {of}")["items"][0]["buildId"]
    assert aws(f"lambda-microvms get-microvm-image-build {of} --build-id {build}")["buildState"] == "SUCCESSFUL"
    names = [image["name"] for image in aws("lambda-microvms list-microvm-images --name-filter sam")["items"]]
    assert names == ["sample"], names
    tags(f"lambda-microvms %s --resource {made['imageArn']}")
    aws(f"lambda-microvms delete-microvm-image-version {of}")
    until("lambda-microvms get-microvm-image --image-identifier sample", ready)
    assert aws("lambda-microvms delete-microvm-image --image-identifier sample")["state"] == "DELETING"


def tags(call):
    assert aws(call % "tag-resource" + " --tags stage=dev,owner=me") is None
    assert aws(call % "list-tags")["Tags"] == {"team": "x", "stage": "dev", "owner": "me"}
    assert aws(call % "untag-resource" + " --tag-keys stage owner") is None
    assert aws(call % "list-tags")["Tags"] == {"team": "x"}


def microvms():
    ran = aws(f"lambda-microvms run-microvm --image-identifier {IMAGE} --execution-role-arn {ROLE}execution "
              "--idle-policy maxIdleDurationSeconds=28800,suspendedDurationSeconds=0,autoResumeEnabled=false "
              "--maximum-duration-in-seconds 28800 --run-hook-payload '{\"version\":\"1\"}' "
              f"--ingress-network-connectors {MANAGED}ALL_INGRESS --egress-network-connectors {MANAGED}INTERNET_EGRESS "
              "--logging cloudWatch={logGroup=/aws/lambda/microvms/claude-self-hosted-worker}")
    of = f"--microvm-identifier {ran['microvmId']}"
    running = lambda answer: answer["state"] == "RUNNING"
    until(f"lambda-microvms get-microvm {of}", running)
    assert aws("lambda-microvms list-microvms --max-results 1 --image-identifier claude-worker")["items"]
    token = aws(f"lambda-microvms create-microvm-auth-token {of} --expiration-in-minutes 5 --allowed-ports allPorts={{}}")
    assert list(token["authToken"]) == ["X-aws-proxy-auth"], token
    aws(f"lambda-microvms create-microvm-shell-auth-token {of} --expiration-in-minutes 5")
    aws(f"lambda-microvms suspend-microvm {of}")
    # The engine of these tests cannot suspend; what becomes of a VM is held in crate control.
    aws(f"lambda-microvms terminate-microvm {of}")
    ended = until(f"lambda-microvms get-microvm {of}", lambda answer: answer["state"] == "TERMINATED")
    assert ended["microvmId"] == ran["microvmId"], ended
    told = aws(f"lambda-microvms resume-microvm {of}", exits=255)
    assert "has been terminated and its state cannot be changed." in told, told
    other = aws("lambda-microvms run-microvm --image-identifier claude-worker")["microvmId"]
    of = f"--microvm-identifier {other}"
    until(f"lambda-microvms get-microvm {of}", running)
    aws(f"lambda-microvms resume-microvm {of}")
    aws(f"lambda-microvms terminate-microvm {of}")


def connectors():
    vpc = "VpcEgressConfiguration={SubnetIds=[subnet-0a],NetworkProtocol=IPv4,AssociatedComputeResourceTypes=[MicroVm]}"
    made = aws(f"lambda-core create-network-connector --name net --configuration '{vpc}' "
               f"--operator-role {ROLE}connector-operator --tags team=x")
    assert made["State"] == "PENDING", made
    until("lambda-core get-network-connector --identifier net", lambda answer: answer["State"] == "ACTIVE")
    assert len(aws("lambda-core list-network-connectors --state ACTIVE")["NetworkConnectors"]) == 1
    changed = vpc.replace("subnet-0a", "subnet-0b")
    updated = aws(f"lambda-core update-network-connector --identifier net --configuration '{changed}'")
    assert updated["LastUpdateStatus"] == "InProgress", updated
    tags(f"lambda-microvms %s --resource {made['Arn']}")
    until("lambda-core get-network-connector --identifier net", lambda answer: answer["LastUpdateStatus"] == "Successful")
    assert aws("lambda-core delete-network-connector --identifier net")["State"] == "DELETING"


images()
microvms()
connectors()
# This CLI's own model of lambda-core is older: it has no list-network-connector-versions.
assert len(typed) == 24 + 5, sorted(typed)
print("all good")
