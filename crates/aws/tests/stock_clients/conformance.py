"""Holds every operation against its service model, member by member, over real HTTP.

For each member of each input, values at and beyond every limit of the model are sent: shortest, longest, one
past, wrong type, wrong pattern, missing, unknown, empty, one more than there may be. What the model allows must
be accepted and come back on the matching Get; what it forbids must be a ValidationException that names member
and limit. Prints one JSON object: counts for each operation, what failed, which rules beyond the model were met.

A member that *names* something (an image, a role, a token) cannot be any text of the model's form and exist: of
such it is held that the model's check lets it pass and that the service answers in its own words.
"""

import copy
import http.client
import json
import os
import re
import sys
import time
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.session import get_session

ACCOUNT, REGION = "000000000000", "us-east-1"
LAMBDA = f"arn:aws:lambda:{REGION}"
IMAGE = f"{LAMBDA}:{ACCOUNT}:microvm-image:claude-worker"
MANAGED = f"{LAMBDA}:aws:network-connector:aws-network-connector:"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/warren-"

# Members that name something that must exist or be understood.
REFERENCES = re.compile(
    r"(^|\.)(imageIdentifier|microvmIdentifier|imageVersion|buildId|executionRoleArn|buildRoleArn|baseImageArn|"
    r"baseImageVersion|nextToken|marker|identifier|operatorRole|resource|uri|chipsetGeneration|nameFilter|"
    r"(in|e)gressNetworkConnectors(\.\d+\.member)?)$")

# Rules of the service beyond its model: operation, member, case (patterns); the answer; why.
RULES = [
    ("(Create|Update)MicrovmImage", r"resources\.1\.member\.minimumMemoryInMiB", ".*", "ValidationException",
     "must be one of", "Memory comes in AWS's sizes (and 16,384 and 32,768 MiB)."),
    ("(Create|Update)MicrovmImage", r"cpuConfigurations\.1\.member\.architecture", "choice ARM_64", "ValidationException",
     "ARM_64", "A host runs its own processor's images."),
    ("(Create|Update)MicrovmImage", r"hooks\.microvmImageHooks(\.ready)?", "missing|choice DISABLED|empty", "ValidationException",
     "The ready (/ready) MicroVM image hook must be enabled", "A hook of a MicroVM needs the image's ready hook, as on AWS."),
    ("(Create|Update)MicrovmImage", r"hooks\.port", "missing", "ValidationException", "hooks.port must be given",
     "An enabled hook needs a port, as on AWS."),
    ("RunMicrovm", "egressNetworkConnectors", "longest list", "ValidationException",
     "Only one egress network connector can be provided", "The shape takes ten, the service one, as on AWS."),
    ("RunMicrovm", r"idlePolicy\.(maxIdle|suspended)DurationSeconds", "large", "ValidationException",
     "Member must have value less than or equal to", "Durations end at 8 hours (idle) and at what an integer holds."),
    ("CreateMicrovm(Shell)?AuthToken", "expirationInMinutes", "large", "ValidationException",
     "exceeded max allowed of 60", "Tokens live an hour at most, as on AWS."),
    ("CreateMicrovmAuthToken", r"allowedPorts\.1\.member\.range\.(start|end)Port", "most|least", "ValidationException",
     "the range begins with", "A range does not end before it begins."),
    ("CreateNetworkConnector", "clientToken|operatorRole|configuration.*", "missing|empty", "InvalidParameterValueException",
     "required", "Optional in the model, required by the service, as on AWS."),
    ("UpdateNetworkConnector", "clientToken|configuration.*", "missing|empty", "InvalidParameterValueException",
     "required", "Optional in the model, required by the service, as on AWS."),
    ("CreateNetworkConnector", "name", "longest", "InvalidParameterValueException", "cannot be the name",
     "The model takes an ARN for a name; a new connector cannot have one."),
]
# Members of an accepted request that no operation answers (spec 2.1); `logging` of RunMicrovm is another.
NOT_ANSWERED = {"runHookPayload", "clientToken", "ClientToken", "Tags", "Resource", "allowedPorts",
                "expirationInMinutes", "maxResults", "MaxItems", "State", "status", "architecture", "chipset", "TagKeys"}
# Sent by the live service beyond its model.
MORE_ANSWERED = {"terminationReasonCode", "id", "buildPhaseOverrides", "roleConfiguration"}

VALID = {
    "imageIdentifier": IMAGE, "imageVersion": "1.0", "executionRoleArn": ROLE + "execution", "buildRoleArn": ROLE + "build",
    "baseImageArn": f"{LAMBDA}:aws:microvm-image:al2023-1", "baseImageVersion": "1.0", "uri": "s3://artifacts/app.zip",
    "maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 60, "maximumDurationInSeconds": 3600, "port": 9000,
    "minimumMemoryInMiB": 1024, "architecture": "X86_64", "startPort": 80, "endPort": 90, "expirationInMinutes": 5,
    "OperatorRole": ROLE + "connector-operator", "Resource": IMAGE, "SubnetIds": ["subnet-0a"], "SecurityGroupIds": ["sg-0a"],
    "ingressNetworkConnectors": [MANAGED + "HTTP_INGRESS"], "egressNetworkConnectors": [MANAGED + "INTERNET_EGRESS"],
    "AssociatedComputeResourceTypes": ["MicroVm"], "autoResumeEnabled": False, "chipset": "INTEL", "nameFilter": "claude",
    "chipsetGeneration": "1", "environmentVariables": {"A": "1"}, "tags": {"team": "x"}, "Tags": {"team": "x"},
    "TagKeys": ["team"], "State": "ACTIVE",
}
LEFT_OUT = {"nextToken", "Marker", "clientToken", "ClientToken"}
ENABLED = "ENABLED"


class Wire:
    def __init__(self):
        url = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"])
        self.host, self.connection = url.netloc, None
        self.signer = SigV4Auth(Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]), "lambda", REGION)

    def send(self, method, path, body):
        data = json.dumps(body).encode() if body is not None else b""
        request = AWSRequest(method, f"http://{self.host}{path}", headers={"content-type": "application/json"}, data=data)
        self.signer.add_auth(request)
        prepared = request.prepare()
        for _ in range(2):
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.host, timeout=60)
            try:
                self.connection.request(method, path, data, dict(prepared.headers.items()))
                answer = self.connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (http.client.HTTPException, ConnectionError):
                self.connection = None
        raise AssertionError(f"{method} {path[:200]} gets no answer")


WIRE = Wire()
SESSION = get_session()
OPERATIONS = {}
for name in ("lambda-microvms", "lambda-core"):
    model = SESSION.get_service_model(name)
    for operation in model.operation_names:
        if name == "lambda-microvms" or "NetworkConnector" in operation:
            OPERATIONS[operation] = model.operation_model(operation)


def call(operation, parameters):
    """Status, error code and body of a raw call."""
    described = OPERATIONS[operation]
    shape = described.input_shape
    path, query, body = described.http["requestUri"].split("?")[0], [], {}
    for name, value in parameters.items():
        member = shape.members.get(name) if shape else None
        location = member.serialization.get("location") if member is not None else None
        wire_name = member.serialization.get("name", name) if member is not None else name
        if location == "uri":
            path = path.replace("{%s}" % wire_name, urllib.parse.quote(str(value), safe=""))
        elif location == "querystring":
            for one in value if isinstance(value, list) else [value]:
                query.append((wire_name, one if isinstance(one, str) else json.dumps(one)))
        else:
            body[name] = value
    path = re.sub(r"\{\w+\}", "", path)
    if query:
        path += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
    method = described.http["method"]
    status, headers, text = WIRE.send(method, path, body if method in ("POST", "PUT", "PATCH") else None)
    answer = json.loads(text) if text else {}
    return status, headers.get("x-amzn-errortype"), answer


def must(operation, **parameters):
    status, code, answer = call(operation, parameters)
    assert status < 300, (operation, parameters, status, code, answer)
    return answer


def until(check):
    for _ in range(400):
        if (value := check()) is not None:
            return value
        time.sleep(0.02)
    raise AssertionError("it does not come to be")


# ---- values ----

def camel(path):
    return ".".join(part[:1].lower() + part[1:] for part in path)


def fits(pattern, text):
    return pattern is None or re.fullmatch(pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s"), text) is not None


PREFIXES = ["", ROLE, "subnet-", "sg-", f"{LAMBDA}:{ACCOUNT}:microvm-image:", f"{LAMBDA}:{ACCOUNT}:network-connector:"]


def text_of(pattern, length):
    for prefix in PREFIXES:
        text = prefix + "x" * (length - len(prefix))
        if len(text) == length and fits(pattern, text):
            return text
    return None


def misfit(pattern, least):
    for piece in (" ", "!", "*", ":", "\u00e9 !"):
        text = piece * max(1, least)
        if not fits(pattern, text):
            return text
    return None


def valid(shape, name):
    if name in VALID:
        return copy.deepcopy(VALID[name])
    match shape.type_name:
        case "structure" if shape.is_tagged_union:
            first = "cloudWatch" if "cloudWatch" in shape.members else next(iter(shape.members))
            return {first: valid(shape.members[first], first)}
        case "structure":
            return {n: valid(s, n) for n, s in shape.members.items() if n not in LEFT_OUT}
        case "list":
            return [valid(shape.member, "")]
        case "map":
            return {"k": valid(shape.value, "")}
        case "string" if shape.enum:
            return ENABLED if ENABLED in shape.enum else shape.enum[0]
        case "string":
            least = shape.metadata.get("min", 0)
            return next(t for n in range(max(least, 1), 100) if (t := text_of(shape.metadata.get("pattern"), n)))
        case "integer" | "long":
            return max(shape.metadata.get("min", 1), 1)
        case "boolean":
            return False
    raise AssertionError(shape)


# A case: path of the member, what is tried, the value (MISSING: none), and None where the model allows it, else
# what the refusal must say.
MISSING = object()


def must_say(path, what):
    return f"at '{camel(path)}' failed to satisfy constraint: Member must {what}"


def cases(shape, value, path, in_body=True):
    kind = shape.type_name
    wrong = {"string": 7, "integer": "seven", "long": "seven", "boolean": "yes", "list": "x", "map": "x", "structure": "x"}[kind]
    if in_body or kind in ("integer", "long"):
        yield path, "wrong type", wrong, must_say(path, "be a")
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    if kind == "string" and shape.enum:
        for choice in shape.enum:
            yield path, f"choice {choice}", choice, None
        yield path, "no choice", "NONSENSE", must_say(path, f"satisfy enum value set: [{', '.join(shape.enum)}]")
    elif kind == "string":
        yield from of_text(shape.metadata.get("pattern"), least, most, path)
    elif kind in ("integer", "long"):
        yield from of_number(shape, path)
        if in_body:
            yield path, "fraction", 1.5, must_say(path, "be a whole number")
    elif kind == "boolean":
        yield path, "true", True, None
        yield path, "false", False, None
    elif kind == "list":
        yield from of_list(shape, value, path, in_body)
    elif kind == "map":
        yield from of_map(shape, value, path)
    elif kind == "structure":
        yield from of_structure(shape, value, path)


def of_text(pattern, least, most, path):
    shortest = next((t for n in range(least, least + 100) if (t := text_of(pattern, n)) is not None), None)
    if shortest is not None:
        yield path, "shortest", shortest, None
    if least > 0:
        yield path, "too short", "x" * (least - 1), must_say(path, f"have length greater than or equal to {least}")
    if most is not None:
        if (longest := text_of(pattern, most)) is not None:
            yield path, "longest", longest, None
        past = text_of(pattern, most + 1) or "x" * (most + 1)
        yield path, "too long", past, must_say(path, f"have length less than or equal to {most}")
    if pattern and (odd := misfit(pattern, least)):
        yield path, "wrong pattern", odd, must_say(path, f"satisfy regular expression pattern: {pattern}")


def of_number(shape, path):
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None:
        yield path, "least", least, None
        yield path, "too small", least - 1, must_say(path, f"have value greater than or equal to {least}")
    if most is not None:
        yield path, "most", most, None
        yield path, "too large", most + 1, must_say(path, f"have value less than or equal to {most}")
    else:
        yield path, "large", 2**31, None


def of_list(shape, value, path, in_body):
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    one = value[0]
    if in_body:
        empty = None if least == 0 else must_say(path, f"have length greater than or equal to {least}")
        yield path, "empty", [], empty
    if most is not None:
        if most > 1:
            yield path, "longest list", [one] * most, None
        yield path, "one more", [one] * (most + 1), must_say(path, f"have length less than or equal to {most}")
    for deeper, what, inner, refusal in cases(shape.member, one, path + ["1", "member"], in_body):
        yield deeper, what, [inner], refusal


def of_map(shape, value, path):
    most = shape.metadata.get("max")
    yield path, "empty", {}, None
    if most is not None:
        yield path, "longest map", {f"K{n}": "v" for n in range(most)}, None
        yield path, "one more", {f"K{n}": "v" for n in range(most + 1)}, must_say(path, f"have length less than or equal to {most}")
    for _, what, key, refusal in of_text(shape.key.metadata.get("pattern"), shape.key.metadata.get("min", 0), shape.key.metadata.get("max"), ["*"]):
        said = None if refusal is None else refusal.replace("at '*'", f"at '{camel(path)}.{key}.key'")
        yield path + ["key"], what, {key: "v"}, said
    for deeper, what, inner, refusal in cases(shape.value, "v", path + ["k", "member"]):
        yield deeper, what, {"k": inner}, refusal


def of_structure(shape, value, path):
    if shape.is_tagged_union:
        yield path, "empty", {}, must_say(path, "hold exactly one of") if len(path) else None
        members = {name: valid(member, name) for name, member in shape.members.items()}
        if len(members) > 1:
            yield path, "two of a union", members, must_say(path, "hold exactly one of")
        for name, inner in members.items():
            yield path + [name], "one of a union", {name: inner}, None
            for deeper, what, changed, refusal in cases(shape.members[name], inner, path + [name]):
                yield deeper, what, {name: changed}, refusal
    else:
        if path and not shape.required_members:
            yield path, "empty", {}, None
        yield from of_members(shape, value, path)
    if path:
        unknown = f"at '{camel(path)}.unknownMember' failed to satisfy constraint: Member is not one of"
        yield path + ["unknownMember"], "unknown", value | {"unknownMember": 1}, unknown


def of_members(shape, value, path):
    for name, inner in value.items():
        member = shape.members[name]
        without = {n: v for n, v in value.items() if n != name}
        required = name in shape.required_members
        refusal = f"Value null at '{camel(path + [name])}' failed to satisfy constraint: Member must not be null"
        yield path + [name], "missing", without, refusal if required else None
        for deeper, what, changed, refusal in cases(member, inner, path + [name]):
            yield deeper, what, value | {name: changed}, refusal


# ---- what each operation works on, and where it is read back ----

class Stage:
    """Fresh things for each accepted call."""

    def __init__(self):
        self.count = 0
        self.vm = must("RunMicrovm", imageIdentifier=IMAGE, ingressNetworkConnectors=[MANAGED + "SHELL_INGRESS"])["microvmId"]
        until(lambda: must("GetMicrovm", microvmIdentifier=self.vm)["state"] == "RUNNING" or None)
        self.image = self.new_image()
        builds = must("ListMicrovmImageBuilds", imageIdentifier=self.image, imageVersion="1.0")["items"]
        self.build = builds[0]["buildId"]
        self.connector = self.new_connector()

    def fresh(self):
        self.count += 1
        return f"n{self.count}"

    def new_image(self):
        made = must("CreateMicrovmImage", name=self.fresh(), baseImageArn=VALID["baseImageArn"], buildRoleArn=ROLE + "build",
                    codeArtifact={"uri": "s3://artifacts/app.zip"})
        self.settle(made["imageArn"])
        return made["imageArn"]

    def settle(self, image):
        until(lambda: None if must("GetMicrovmImage", imageIdentifier=image)["state"] in ("CREATING", "UPDATING") else True)

    def new_connector(self):
        vpc = {"SubnetIds": ["subnet-0a"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"]}
        made = must("CreateNetworkConnector", Name=self.fresh(), Configuration={"VpcEgressConfiguration": vpc},
                    OperatorRole=ROLE + "connector-operator", ClientToken=self.fresh())
        self.calm(made["Id"])
        return made["Id"]

    def calm(self, connector):
        def changed():
            got = must("GetNetworkConnector", Identifier=connector)
            return True if got["State"] == "ACTIVE" and got.get("LastUpdateStatus") != "InProgress" else None
        until(changed)

    def base(self, operation):
        """A whole valid request."""
        shape = OPERATIONS[operation].input_shape
        request = valid(shape, "") if shape else {}
        if "microvmIdentifier" in request:
            request["microvmIdentifier"] = self.vm
        if operation != "RunMicrovm" and "imageIdentifier" in request:
            request["imageIdentifier"] = self.image
        if operation in ("ListMicrovms", "RunMicrovm"):
            request["imageIdentifier"] = IMAGE
        if operation == "ListManagedMicrovmImageVersions":
            request["imageIdentifier"] = VALID["baseImageArn"]
        if "buildId" in request:
            request["buildId"] = self.build
        if "Identifier" in request:
            request["Identifier"] = self.connector
        if operation == "UpdateMicrovmImageVersion":
            request["status"] = "ACTIVE"
        if operation == "CreateNetworkConnector":
            request["ClientToken"] = "t"
        if operation == "UpdateNetworkConnector":
            request["ClientToken"] = "t"
        return request

    def prepare(self, operation, request, path):
        """What a call uses up is made anew, unless it is what is tried."""
        top = path[0] if path else None
        if operation == "TerminateMicrovm" and top != "microvmIdentifier":
            request["microvmIdentifier"] = must("RunMicrovm", imageIdentifier=IMAGE)["microvmId"]
        if operation == "DeleteMicrovmImage" and top != "imageIdentifier":
            request["imageIdentifier"] = self.new_image()
        if operation == "DeleteMicrovmImageVersion" and top is None:
            image = request["imageIdentifier"] = self.new_image()
            must("UpdateMicrovmImage", imageIdentifier=image, baseImageArn=VALID["baseImageArn"], buildRoleArn=ROLE + "build",
                 codeArtifact={"uri": "s3://artifacts/app.zip"})
            self.settle(image)
        if operation == "DeleteNetworkConnector" and top != "Identifier":
            request["Identifier"] = self.new_connector()
        if operation == "CreateMicrovmImage" and top != "name":
            request["name"] = self.fresh()
        if operation == "CreateNetworkConnector" and top != "Name":
            request["Name"] = self.fresh()
        if "ClientToken" in request and top != "ClientToken":
            request["ClientToken"] = self.fresh()

    def read_back(self, operation, request, answer):
        """What the matching Get answers, once what was begun is done."""
        match operation:
            case "RunMicrovm":
                got = must("GetMicrovm", microvmIdentifier=answer["microvmId"])
                must("TerminateMicrovm", microvmIdentifier=answer["microvmId"])
                return got | {"imageIdentifier": got["imageArn"]}
            case "CreateMicrovmImage" | "UpdateMicrovmImage":
                image = answer["imageArn"]
                self.settle(image)
                got = must("GetMicrovmImageVersion", imageIdentifier=image, imageVersion=answer["imageVersion"])
                whole = must("GetMicrovmImage", imageIdentifier=image)
                if operation == "CreateMicrovmImage":
                    must("DeleteMicrovmImage", imageIdentifier=image)
                return got | {"name": whole["name"], "tags": whole["tags"], "imageIdentifier": image}
            case "UpdateMicrovmImageVersion":
                got = must("GetMicrovmImageVersion", imageIdentifier=request["imageIdentifier"], imageVersion="1.0")
                assert got["status"] == request["status"], got
                return request
            case "TagResource":
                got = must("ListTags", Resource=request["Resource"])["Tags"]
                must("UntagResource", Resource=request["Resource"], TagKeys=list(got) or ["none"])
                assert got == request["Tags"], (got, request["Tags"])
                return request
            case "UntagResource":
                got = must("ListTags", Resource=request["Resource"])["Tags"]
                assert not set(got) & set(request.get("TagKeys", [])), got
                return request
            case "CreateNetworkConnector" | "UpdateNetworkConnector":
                self.calm(answer["Id"])
                got = must("GetNetworkConnector", Identifier=answer["Id"])
                if operation == "CreateNetworkConnector":
                    tags = must("ListTags", Resource=answer["Arn"])["Tags"]
                    assert tags == (request.get("Tags") or {}), (tags, request)
                    must("DeleteNetworkConnector", Identifier=answer["Id"])
                return got | {"Identifier": request.get("Identifier")}
            case _:
                return request


def same(sent, got):
    """Whether all that was sent came back; what is empty may come back as its default."""
    if isinstance(sent, dict):
        return not sent or (isinstance(got, dict) and all(same(v, got.get(k)) for k, v in sent.items()))
    if isinstance(sent, list):
        return not sent or (isinstance(got, list) and len(sent) == len(got) and all(map(same, sent, got)))
    return sent == got


def output_faults(shape, value, path=()):
    """What of an answer is not as the model has it."""
    if value is None:
        return
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        for name in shape.required_members:
            if value.get(name) is None and shape.members[name].serialization.get("location") is None:
                yield f"{'.'.join((*path, name))} is missing"
        for name, inner in value.items():
            if name in shape.members:
                yield from output_faults(shape.members[name], inner, (*path, name))
            elif name not in MORE_ANSWERED:
                yield f"{'.'.join((*path, name))} is not in the model"
    elif kind == "list" and isinstance(value, list):
        for inner in value:
            yield from output_faults(shape.member, inner, (*path, "member"))
    elif kind == "map" and isinstance(value, dict):
        for inner in value.values():
            yield from output_faults(shape.value, inner, (*path, "member"))
    else:
        types = {"string": str, "integer": int, "long": int, "boolean": bool, "timestamp": (int, float, str)}
        if not isinstance(value, types.get(kind, ())):
            yield f"{'.'.join(path)} is {value!r}, not a {kind}"
        elif kind == "string" and shape.enum and value not in shape.enum:
            yield f"{'.'.join(path)} is {value!r}, none of {shape.enum}"


class Report:
    def __init__(self):
        self.operations, self.failures, self.differences = {}, [], set()

    def hold(self, stage, operation, case):
        path, what, request, refusal = case
        row = self.operations[operation]
        row["cases"] += 1
        row["names"].add(camel([part for part in path if part != "unknownMember"]))
        if refusal is None:
            stage.prepare(operation, request, path)
        status, code, answer = call(operation, request)
        fault = self.judge(stage, operation, (camel(path), what, request, refusal), (status, code, answer))
        row["refused" if refusal or status >= 300 else "accepted"] += 1
        if fault:
            self.failures.append(f"{operation} {camel(path)}, {what}: {fault}; {status} {code} {json.dumps(answer)[:300]}")

    def judge(self, stage, operation, case, given):
        (member, what, request, refusal), (status, code, answer) = case, given
        message = str(answer.get("message") or answer.get("Message")) if isinstance(answer, dict) else ""
        if status >= 500:
            return "a failure of the server"
        if refusal is not None:
            told = (status, code) == (400, "ValidationException") and refusal in message
            return None if told else f"it must be refused with {refusal!r}"
        for of, where, when, wanted, text, why in RULES:
            if re.fullmatch(of, operation) and re.fullmatch(where, member) and re.fullmatch(when, what) and status >= 300:
                self.differences.add((of, where, why))
                return None if code == wanted and text in message else f"it must be a {wanted} with {text!r}"
        if REFERENCES.search(member) and what not in ("missing", "empty", "whole"):
            return "the model allows it" if "failed to satisfy constraint" in message else None
        if status != OPERATIONS[operation].http["responseCode"]:
            return "the model allows it"
        output = OPERATIONS[operation].output_shape
        faults = list(output_faults(output, answer)) if output else []
        if faults:
            return f"the answer is not the model's: {faults}"
        try:
            got = stage.read_back(operation, request, answer)
        except AssertionError as error:
            return f"it does not come back: {error}"
        for name, value in request.items():
            silent = name in NOT_ANSWERED or (operation, name) == ("RunMicrovm", "logging")
            if not silent and not same(value, got.get(name)):
                return f"{name} comes back as {got.get(name)!r}"
        return None


def all_cases(stage, operation):
    shape = OPERATIONS[operation].input_shape
    base = stage.base(operation)
    yield [], "whole", base, None
    if shape is None:
        return
    located = {n: m.serialization.get("location") for n, m in shape.members.items()}
    for name, member in shape.members.items():
        in_body = located[name] is None
        value = base.get(name, valid(member, name))
        if located[name] != "uri":
            without = {n: v for n, v in base.items() if n != name}
            refusal = f"Value null at '{camel([name])}' failed to satisfy constraint: Member must not be null"
            yield [name], "missing", without, refusal if name in shape.required_members else None
        for path, what, changed, refusal in cases(member, value, [name], in_body):
            yield path, what, base | {name: changed}, refusal
    if any(location is None for location in located.values()):
        unknown = "at 'unknownMember' failed to satisfy constraint: Member is not one of"
        yield ["unknownMember"], "unknown", base | {"unknownMember": 1}, unknown


def main():
    stage, report = Stage(), Report()
    chosen = sys.argv[1:] or OPERATIONS
    for operation in chosen:
        report.operations[operation] = {"cases": 0, "accepted": 0, "refused": 0, "names": set()}
        for path, what, request, refusal in all_cases(stage, operation):
            if operation == "UpdateMicrovmImage":
                stage.settle(stage.image)
            report.hold(stage, operation, (path, what, copy.deepcopy(request), refusal))
    for row in report.operations.values():
        row["members"] = len(row.pop("names") - {""})
    print(json.dumps({"operations": report.operations, "failures": report.failures,
                      "differences": sorted(report.differences)}))


main()
