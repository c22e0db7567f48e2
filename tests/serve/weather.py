"""A strict function that the tests of both APIs offer to a model, and the text by which the model calls it."""

from lmworks.tokenizer.tool_calls import OWN_FORM

PARAMETERS = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "parameters": PARAMETERS, "strict": True}
CALL = OWN_FORM.write("get_weather", '{"place": "Graz"}')
