"""What no command can do: exit status 2, one message that names what is wrong and the way out, and nothing made."""

import json

import pytest

from command_line import refused
from kit.tables import for_each
from lmworks.config import to_mapping
from lmworks.ground.config import WritingConfig
from lmworks.workspace import Current

WORDS = ("dog", "cat", "sun", "red", "leave", "tree", "ship", "moon", "bread", "glass", "paper", "stone")
NEW = ("--out", "new.npz")
AGAINST = ("--against", "bad.jsonl")
EXTEND = ("tokenizer", "extend", "model", "--tokens", "3")
TRAIN = ("tokenizer", "train", "nowhere", "--out", "v")
LEARN = ("vectors", "train", "nowhere", "--out", "v")
ALIGN = ("align", "no-model", "--data")
PREVIEW = ("tokenizer", "preview", "smollm2-135m-instruct")
WRITING = {"endpoint": "http://localhost:1/v1", "model": "m", "key": "NO_SUCH_KEY"}
WRITER = [part for name, value in WRITING.items() for part in ("--set", f"writing.{name}={value}")]
REFUSED = [  # what is asked, and what the message has to name
    (("build", "nowhere.toml"), "nowhere.toml"),
    (("build", "assistent"), '"assistant"'),
    (("build", "--set", "index.chunk.taget_tokens=3"), '"target_tokens"'),
    (("build", "--set", "serve.prot=9"), '"port"'),
    (("build", "--set", "log.retention_days=-1"), "retention_days"),
    (("ask", "anything"), "lmworks up"),
    (("lineage", "index"), "--workspace"),
    (("log", "show"), "lmworks up"),
    (("log", "show", "--workspace", "nowhere"), "nowhere"),
    (("serve",), "lmworks up"),
    (("serve", "--model", "gpt-5", "--adapter", " =x"), "NAME=FOLDER"),
    (("serve", "--workspace", "nowhere"), "nowhere"),
    (("serve", "--workspace", "built", "--port", "0"), "export NO_SUCH_KEY"),
    (("serve", "--workspace", "built", "--port", "0", "--keys", "nope.json"), "nope.json"),
    (("up", "--port", "0", *WRITER), "export NO_SUCH_KEY"),
    (("serve", "--model", "gpt-5", "--port", "0"), "all-minilm-l6-v2"),
    (("pull", "gpt-5"), "all-minilm-l6-v2"),
    (("bench", "--weights", "float8"), "float32, bfloat16, int8, int4, auto"),
    (("bench", "--new", "1"), "2 new tokens"),
    (("bench", "--rounds", "0"), "--rounds"),
    (("bench", "nowhere"), "nowhere"),
    (("stage", "corpus.raed", "--out", "x"), '"corpus.read"'),
    (("stage", "corpus.raed", "--help"), '"corpus.read"'),
    (("stage", "corpus.read", "--out", "x"), 'sources=["docs"]'),
    (("stage", "corpus.read", "--set", 'sources=["gone"]', "--out", "x"), "gone"),
    (("stage", "corpus.read", "--model", "tokenizer=a", "--out", "x"), '"tokenizer"'),
    (("stage", "retrieve.index", "--out", "x"), "--model embedder=NAME"),
    (("stage", "tokenizer.bpe", "--from", "gone", "--out", "x"), "gone"),
    (("trian", "--minutes", "5"), "'train'"),
    (("vectrs",), "'vectors'"),
    (("pretraining",), "lmworks stage train.pretrain"),
    (("xyzzy",), "'xyzzy'"),
    (("data", "why", "x"), "lmworks data build"),
    (("data", "card"), "lmworks data build"),
    (("data", "build", ""), "a source is empty"),
    (("data", "build", "notes", "--policy", "nope.toml"), "--policy nope.toml"),
    (("data", "build", "notes", "--policy", ""), "--policy ."),
    (("data", "build", "notes", "--workspace", "items.jsonl"), "items.jsonl"),
    (("data", "build", "notes", "--workspace", "items.jsonl/w"), "items.jsonl"),
    (("data", "why", "x", "--workspace", "items.jsonl"), "items.jsonl"),
    (("data", "why", "x", "--from", "nowhere"), "nowhere"),
    (("data", "classifier", "good", *NEW), "--against"),
    (("data", "classifier", "good", *AGAINST, "--label", "topic", *NEW), "--label"),
    (("data", "classifier", "good", *AGAINST, "--positive", "x", *NEW), "--label"),
    (("data", "classifier", "good", *AGAINST, "--out", "bad.jsonl"), "bad.jsonl"),
    (("data", "classifier", "good", *AGAINST, "--out", "new.json"), "new.npz"),
    (("data", "classifier", "good", *AGAINST, *NEW, "--set", "bit=3"), '"bits"'),
    (("data", "classifier", "good", *AGAINST, *NEW, "--kind", "novel"), "'novel'"),
    (("data", "classifier", "nowhere", *AGAINST, *NEW), "nowhere"),
    (("data", "classifier", "good", *AGAINST, *NEW), "different texts"),
    ((*TRAIN, "--kind", "bep"), '"bpe"'),
    ((*TRAIN, "--set", "vocabulary=3"), '"vocabulary_size"'),
    ((*TRAIN, "--family", "llama9"), "'llama9'"),
    ((*TRAIN, "--family", "chatml", "--kind", "wordpiece"), "--kind bpe or unigram"),
    ((*TRAIN, "--set", "words=gpt5"), "'gpt4'"),
    (("tokenizer", "train", "notes", "--out", "notes"), "notes"),
    ((*EXTEND, "--out", "x"), "--text"),
    ((*EXTEND, "--text", "one.txt", "--out", "x"), "2 different documents"),
    ((*EXTEND, "--text", "nowhere/*.txt", "--out", "x"), "nowhere"),
    ((*EXTEND, "--text", "good/*.txt", "--out", "x", "--held-out", "1.5"), "between 0 and 1"),
    ((*EXTEND, "--text", "good/*.txt", "--out", "x", "--tokens", "0"), "1 or more"),
    ((*EXTEND, "--text", "good/*.txt", "--out", "model"), "model"),
    (("tokenizer", "extend", "adapter", "--text", "good/*.txt", "--tokens", "3", "--out", "x"), "adapter"),
    (("tokenizer", "extend", "all-minilm-l6-v2", "--text", "good", "--tokens", "3", "--out", "x"), "WordPiece"),
    (("tokenizer", "report", "nowhere", "--text", "one.txt", "--reference", "fra"), "--reference fra"),
    (("tokenizer", "report", "model"), "--text"),
    (("tokenizer", "report", "model", "--text", "one.txt", "--out", "one.txt"), "one.txt"),
    (("tokenizer", "preview", "model", "--family", "vicuna"), "chatml, smollm2"),
    (("tokenizer", "preview", "nowhere"), "nowhere"),
    (("tokenizer", "preview", "all-minilm-l6-v2"), "--family"),
    ((*PREVIEW, "--conversation", "nowhere.json"), "nowhere.json"),
    ((*PREVIEW, "--row", "2"), "--conversation"),
    ((*LEARN, "--kind", "cbov"), '"cbow"'),
    ((*LEARN, "--set", "dimension=3"), '"dimensions"'),
    ((*LEARN, "--set", "window=0"), "window"),
    (("vectors", "train", "notes", "--out", "notes"), "notes"),
    (("vectors", "train", "adapter/*.bin", "--out", "v"), "not UTF-8"),
    (("vectors", "train", "notes", "--out", "one.txt/v", "--set", "dimensions=4"), "one.txt"),
    (("vectors", "analogy", "a", "b", "--vectors", "v"), "three words"),
    (("vectors", "analogy", "a", "b", "c", "--method", "divide", "--vectors", "v"), "add, multiply"),
    (("vectors", "neighbours", "a", "--vectors", "v"), "v"),
    (("vectors", "neighbours", "a", "--number", "0", "--vectors", "v"), "'--number'"),
    (("vectors", "evaluate", "--vectors", "v"), "--analogies"),
    (("vectors", "evaluate", "--restrict", "0", "--vectors", "v"), "'--restrict'"),
    (("vectors", "map", "--vectors", "v", "--out", "map.gif"), ".svg, .png"),
    (("vectors", "map", "--near", "-3", "--vectors", "v", "--out", "map.svg"), "'--near'"),
    (("vectors", "map", "--vectors", "v", "--out", "one.txt"), "one.txt"),
    (("model", "show", "gpt2-142m"), "gpt2-124m"),
    (("model", "show", "qqqqqq"), "lmworks model list"),
    (("model", "show", "gpt2", "--context", "-3"), "--context"),
    (("model", "show", "notes"), "config.json"),
    (("model", "show", "broken"), "config.json"),
    (("model", "show", "wrong"), "gpt2"),
    ((*ALIGN, "equal.jsonl"), "remove the row"),
    ((*ALIGN, "misspelt.jsonl"), '"chosen"'),
    ((*ALIGN, "one.jsonl", "--method", "kto"), "rows of the other"),
    ((*ALIGN, "rated.jsonl", "--method", "reward"), "one rating"),
    ((*ALIGN, "pairs.jsonl", "--method", "kto"), "dpo, simpo, orpo or reward"),
    ((*ALIGN, "labels.jsonl", "--method", "kto", "--set", "batch=1"), "batch to 2"),
    ((*ALIGN, "pairs.jsonl", "--method", "dpo", "--set", "method.lora_dropout=0.1"), "lora_dropout=0"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny, minilm, smollm2):
    """A folder with a file or a folder for each thing that is wrong."""
    place = tmp_path_factory.mktemp("refused")
    texts = {
        "notes/a.txt": "A note of a few words.", "one.txt": "one line\nanother one\n", "items.jsonl": "{}\n",
        "broken/config.json": "[1, 2]", "wrong/config.json": '{"model_type": "gpt2", "vocab_size": 97, "n_head": 0}',
        "adapter/adapter_config.json": '{"peft_type": "LORA"}', "adapter/weights.bin": "\x1f",
        **{f"good/{number}.txt": f"A proof of lemma {number} by induction." for number in range(5)},
    }  # fmt: skip
    current = Current("r", "", {"assistant": "model"}, {}, {}, {}, writing=WritingConfig(**WRITING))
    texts["built/current.json"] = json.dumps(to_mapping(current))
    for name, text in texts.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    (place / "adapter" / "weights.bin").write_bytes(b"\x1f\x8b\x08")
    tiny.tokenizer.save(place / "adapter")
    tiny.save(place / "model")
    tables = {
        "bad": [{"text": f"Buy cheap pills, offer {number}!"} for number in range(5)],
        "pairs": [{"prompt": word, "chosen": "aye", "rejected": "nay"} for word in WORDS],
        "labels": [{"prompt": w, "completion": "aye" if n % 2 else "nay", "label": n % 2} for n, w in enumerate(WORDS)],
        "one": [{"prompt": word, "completion": "aye", "label": True} for word in WORDS],
        "misspelt": [{"prompt": word, "choosen": "aye", "rejected": "nay"} for word in WORDS],
        "rated": [{"prompt": word, "completion": "aye", "rating": 0.5} for word in WORDS],
        "equal": [{"prompt": word, "chosen": "aye", "rejected": "aye"} for word in WORDS],
    }
    for name, rows in tables.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


@for_each(("arguments", "named"), REFUSED)
def test_an_error_names_what_is_wrong_and_nothing_is_made(arguments, named, place, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    message = " ".join(refused(*arguments, cwd=place).replace("│", " ").split())
    assert named in message, message
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
