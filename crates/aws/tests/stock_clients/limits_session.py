"""Calls beyond the limits: memory for two MicroVMs of 512 MiB, three runs a second, one call of tags."""

import json

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(retries={"max_attempts": 1, "mode": "standard"})
IMAGE = "arn:aws:lambda:us-east-1:000000000000:microvm-image:claude-worker"
answers = []


def client(service):
    made = boto3.client(service, config=CONFIG)
    made.meta.events.register(f"before-parse.{service}", lambda response_dict, **_: answers.append(response_dict))
    return made


def refused(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        answer = answers[-1]
        return error.response["Error"]["Code"], answer["status_code"], answer["headers"], json.loads(answer["body"])
    return None


def first_refusal(call, **arguments):
    for _ in range(50):
        if refusal := refused(call, **arguments):
            return refusal
    raise AssertionError(f"{call} is never refused")


def main():
    vms, core = client("lambda-microvms"), client("lambda-core")
    for _ in range(2):
        vms.run_microvm(imageIdentifier=IMAGE)
    # The quota is told, also where the rate is used up: more calls than a second has.
    for _ in range(8):
        code, status, _, body = refused(vms.run_microvm, imageIdentifier=IMAGE)
        assert (code, status) == ("ServiceQuotaExceededException", 402), (code, status)
        assert body == {"message": "The base maximum allocated memory limit has been reached for this account.",
                        "serviceCode": None, "quotaCode": None, "resourceId": None, "resourceType": None}, body

    code, status, headers, body = first_refusal(vms.list_tags, Resource=IMAGE)
    assert (code, status, headers["Retry-After"]) == ("TooManyRequestsException", 429, "1"), (code, status, headers)
    assert body["Reason"] == "CallerRateLimitExceeded" and body["message"] == "Rate exceeded", body
    code, status, _, body = first_refusal(core.list_network_connectors)
    assert (code, status, body["Reason"]) == ("TooManyRequestsException", 429, "CallerRateLimitExceeded"), body

    request = {"Name": "n", "OperatorRole": "arn:aws:iam::000000000000:role/warren-connector-operator",
               "Configuration": {"VpcEgressConfiguration": {"SubnetIds": ["subnet-1"], "NetworkProtocol": "IPv4",
                                                            "AssociatedComputeResourceTypes": ["MicroVm"]}}}
    code, status, _, body = refused(core.create_network_connector, **request)
    assert (code, status) == ("NetworkConnectorLimitExceededException", 400), (code, status, body)

    # With memory to spare it is the rate.
    for vm in vms.list_microvms()["items"]:
        vms.terminate_microvm(microvmIdentifier=vm["microvmId"])
    wait = 0
    while any(vm["state"] != "TERMINATED" for vm in vms.list_microvms()["items"]) and wait < 600:
        wait += 1
    seen = set()
    for _ in range(6):
        if refusal := refused(vms.run_microvm, imageIdentifier=IMAGE):
            seen.add(refusal[:2])
            if refusal[0] == "ThrottlingException":
                assert refusal[2]["Retry-After"] == "1" and refusal[3]["quotaCode"] == "L-535CA9B6", refusal
    assert seen, "six runs at once are too many"
    assert seen <= {("ThrottlingException", 429), ("ServiceQuotaExceededException", 402)}, seen
    print("all good")


main()
