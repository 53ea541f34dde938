"""Prints the inputs of the operations in botocore's service models, as one JSON object.

{signing name: {operation: {"route": [method, path], "members": {name: {required, location, shape}}}}}
"""

import json

from botocore.session import get_session

SERVICES = {"lambda": ["lambda-microvms", "lambda-core"], "secretsmanager": ["secretsmanager"],
            "sts": ["sts"], "logs": ["logs"], "ssm": ["ssm"]}


def shape(of):
    limits = {"min": of.metadata.get("min", 0), "max": of.metadata.get("max")}
    match of.type_name:
        case "string" if of.enum:
            return {"type": "string", "enum": of.enum}
        case "string":
            return {"type": "string", **limits, "pattern": of.metadata.get("pattern")}
        case "integer" | "long":
            return {"type": "integer", "min": of.metadata.get("min"), "max": of.metadata.get("max")}
        case "list":
            return {"type": "list", **limits, "of": shape(of.member)}
        case "map":
            return {"type": "map", **limits, "key": shape(of.key), "value": shape(of.value)}
        case "structure":
            return {"type": "union" if of.is_tagged_union else "structure", "members": members(of)}
        case "blob":
            return {"type": "blob", **limits}
        case other:
            return {"type": other}


def members(of):
    return {
        name: {
            "required": name in of.required_members,
            "location": member.serialization.get("location"),
            "shape": shape(member),
        }
        for name, member in of.members.items()
    }


def main():
    session = get_session()
    models = {}
    for signing_name, names in SERVICES.items():
        operations = models.setdefault(signing_name, {})
        for name in names:
            model = session.get_service_model(name)
            for operation in model.operation_names:
                # The rest of SSM manages machines, with shapes that hold themselves.
                if name == "ssm" and not ("Parameter" in operation or "Tags" in operation):
                    continue
                described = model.operation_model(operation)
                http = described.http
                operations[operation] = {
                    "route": [http["method"], http["requestUri"].split("?")[0]],
                    "members": members(described.input_shape) if described.input_shape else {},
                }
    print(json.dumps(models))


main()
