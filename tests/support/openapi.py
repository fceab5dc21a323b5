"""Holds an OpenAPI document, and answers that were really given, against each other.

Reads from standard input {"document": ..., "answers": [{"path", "method", "code", "type", "body"}, ...]}, where `path`
is as the document has it. Prints what is wrong, a line each, and what was never answered, each after "unseen".

Objects are taken strictly here: a field that the document does not know is an error, though a reader of the document
must expect new ones.
"""

import json
import sys

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator


def strict(schema):
    """The schema, with no other fields allowed in objects than those it names."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def main():
    given = json.load(sys.stdin)
    document, wrong = given["document"], []
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        # Where it is validated by another library, the message goes on for lines.
        message = str(error.message).splitlines()[0]
        wrong.append(f"document: {message} at {'/'.join(map(str, error.absolute_path))}")
    root = strict(document)
    unseen = {
        (path, method, code)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for code in operation["responses"]
        if code != "default"
    }
    for answer in given["answers"]:
        path, method, code = answer["path"], answer["method"], str(answer["code"])
        place = f"{method} {path} {code}"
        responses = root["paths"].get(path, {}).get(method, {}).get("responses", {})
        response = responses.get(code, responses.get("default"))
        if response is None:
            wrong.append(f"{place}: the document does not have it")
            continue
        unseen.discard((path, method, code))
        if "$ref" in response:
            response = root["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        if method == "head":
            if answer["body"] or "content" in response:
                wrong.append(f"{place}: there is a body")
            continue
        if answer["type"] not in response["content"]:
            wrong.append(f"{place}: the document does not have the type {answer['type']}")
            continue
        schema = {**response["content"][answer["type"]]["schema"], "components": root.get("components", {})}
        validator = Draft202012Validator(schema, format_checker=FormatChecker())
        for error in validator.iter_errors(json.loads(answer["body"])):
            where = "/".join(map(str, error.absolute_path))
            wrong.append(f"{place}: {error.message[:400]} at /{where}")
    print("\n".join([*wrong, *(f"unseen {method} {path} {code}" for path, method, code in sorted(unseen))]))


main()
