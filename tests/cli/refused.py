"""Everything a user can get wrong, for `test_bad_input`.

Each row is what is made in an empty working directory, the command, and the sentence it must end
with.  An ellipsis in a sentence stands for words that other libraries choose; ``{small}`` in a
command makes a run on built-in data quick.
"""

from __future__ import annotations

import numpy as np

from . import spoilt
from .spoilt import CHECKPOINT, Edit, both, data, replaced, result, written

DATA = "run --data data --rounds 2 --set evaluation.negatives=5 --set items.base=svd --out new"
ARRAY = f"{DATA} --set items.encoder=array --set items.options.path=vectors.npy"
RUN = "run {small} --rounds 2 --out new"
RESUME = "run --resume run"
RECOMMEND = "recommend run --user user-0"

Row = tuple[str, Edit | None, str, str]

FILES: list[Row] = [
    ("row too short", data("u0,i1,1", "u0,1"), DATA,
     "{here}/data/interactions.csv, line 3 has 2 fields; 3 fields separated by ',' are expected"),
    ("missing column", data("user_id", "who"), DATA,
     "{here}/data/interactions.csv has no column 'user_id', nor another usual name of the user; "
     "its columns are who, item_id, timestamp; name one in data.columns.user"),
    ("one of two columns", data("item_id,timestamp", "asin,product"), DATA,
     "{here}/data/interactions.csv has several columns that may be the item: asin, product; name "
     "one in data.columns.item"),
    ("wrong encoding", data("Film 1,", "Caf\xe9,", "items.csv"), DATA,
     "{here}/data/items.csv, line 3 is not valid UTF-8; save it as UTF-8"),
    ("truncated gzip", spoilt.truncated_gzip, DATA,
     "{here}/data/interactions.csv.gz is not a complete gzip file: …"),
    ("empty file", both(spoilt.table, written("data/items.csv", "")), DATA,
     "{here}/data/items.csv is empty"),
    ("header only", both(spoilt.table, written("data/items.csv", "item_id,title\n")), DATA,
     "{here}/data/items.csv has no rows"),
    ("item without text", data("i4,Film 4,about kites", "i4,,", "items.csv"), DATA,
     "{here}/data/items.csv: item 'i4' has no text (1 such items); set empty_text = \"keep\" to "
     "allow it"),
    ("unknown item", data("u0,i1,1", "u0,i99,1"), DATA,
     "{here}/data/interactions.csv, row 2: item 'i99' is not in {here}/data/items.csv (1 such "
     "interactions); set unknown_items = \"drop\" to leave them out"),
    ("repeated item", data("i5,", "i4,", "items.csv"), DATA,
     "{here}/data/items.csv, row 6: item id 'i4' is repeated, one of 1 such rows; keep one row for "
     "each item"),
    ("users too short", spoilt.short_histories, DATA,
     "no user of data has 3 or more items (min_interactions)"),
    ("infinite time", data("u0,i1,1", "u0,i1,inf"), DATA,
     "{here}/data/interactions.csv, line 3: timestamp = 'inf' is neither a number nor …"),
    ("time not a number", data("u0,i1,1", "u0,i1,nan"), DATA,
     "{here}/data/interactions.csv, line 3 has an empty timestamp (1 such rows)"),
    ("time in words", data("u0,i1,1", "u0,i1,noon"), DATA,
     "{here}/data/interactions.csv, line 3: timestamp = 'noon' is neither a number nor a date of "
     "ISO 8601 such as 2024-06-24 or 2024-06-24T03:47:00Z; say how times are written in "
     "data.columns.time_format, such as \"%d.%m.%Y %H:%M\", or set "
     "data.columns.timestamp = \"\" to do without times"),
    ("user missing", data("u0,i1,1", ",i1,1"), DATA,
     "{here}/data/interactions.csv, line 3: user_id is empty (1 such rows); leave such rows out of "
     "the file"),
    ("no ratings", spoilt.table, f"{DATA} --set data.min_rating=3",
     "min_rating needs ratings, but none were read from {here}/data/interactions.csv; name their "
     "column in columns.rating"),
    ("no data set", written("data/notes.txt", "x"), DATA,
     "{here}/data holds no data set known here (amazon_2018: …; table: interactions, and items if "
     "there are any, …)"),
    ("data is a file", written("data", "x"), DATA,
     "{here}/data must end in one of .csv, .tsv, .dat, .jsonl, .ndjson, .json, each also as .gz, "
     "or .parquet"),
    ("no data", None, DATA,
     "data.source = 'data' is neither 'synthetic' nor a folder or a file that exists; `fedpeft "
     "data list` names what can be downloaded"),
    ("no data to describe", None, "data describe data",
     "data.source = 'data' is neither 'synthetic' nor a folder or a file that exists; `fedpeft "
     "data list` names what can be downloaded"),
    ("vectors with NaN", spoilt.array(np.where(np.arange(36) == 9, np.nan, 1.0).reshape(12, 3)),
     ARRAY, "{here}/vectors.npy row 3 holds NaN, an infinity or a value beyond float32"),
    ("vectors of another catalogue", spoilt.array(np.ones((11, 3))), ARRAY,
     "{here}/vectors.npy has 11 rows but the catalogue has 12 items; give one row per item in "
     "catalogue order, or name an ids file"),
    ("pickled vectors", spoilt.array(np.array([{}] * 12), pickled=True), ARRAY,
     "{here}/vectors.npy holds pickled Python objects, which are refused; save a plain array"),
    ("vectors of text", spoilt.array(np.array([["a"]] * 12)), ARRAY,
     "{here}/vectors.npy must hold floating-point numbers, holds <U1"),
    ("no vectors", spoilt.table, ARRAY, "{here}/vectors.npy cannot be read: No such file or "
     "directory"),
]  # fmt: skip

CONFIGS: list[Row] = [
    ("no config", None, "run no.toml --out new", "config file no.toml does not exist"),
    ("config is a folder", spoilt.table, "run data --out new",
     "config file data is a folder, not a TOML file"),
    ("not TOML", written("c.toml", "[training\nrounds = 3\n"), "run c.toml --out new",
     "config file c.toml is not valid TOML: …(at line 1, column 10)"),
    ("not UTF-8", written("c.toml", b"# caf\xe9\n"), "run c.toml --out new",
     "config file c.toml is not valid TOML: …"),
    ("key twice", written("c.toml", "seed = 1\nseed = 2\n"), "run c.toml --out new",
     "config file c.toml is not valid TOML: …(at line 2, column 9)"),
    ("unknown table", written("c.toml", "[trainer]\nrounds = 3\n"), "run c.toml --out new",
     "unknown key 'trainer'; known keys here are adapter, backbone, data, evaluation, items, loss, "
     "training, preset, seed"),
    ("unknown key", written("c.toml", "[adapter]\nranks = 3\n"), "run c.toml --out new",
     "unknown key 'adapter.ranks'; known keys here are basis, init_std, mode, rank, zero"),
    ("option and --set", None, f"{RUN} --set training.rounds=5",
     "training.rounds is given as 2 by its own option and again by --set training.rounds=5; give "
     "one of them"),
    ("option and a table", None, f"{RUN} --adapter lora --set adapter={{}}",
     "adapter.kind is given as 'lora' by its own option and again by --set adapter={{}}; give one "
     "of them"),
    ("unknown nested key", None, f"{RUN} --set training.server_optimizer.rate=1",
     "unknown key 'training.server_optimizer.rate'; known keys here are beta1, beta2, eps, "
     "item_weight, kind, lr, momentum, population, prior, prior_at"),
    ("a value for a table", None, f"{RUN} --set data=3", "data = 3: must be a table of settings"),
    ("a value for a nested table", None, f"{RUN} --set data.columns=3",
     "data.columns = 3: must be a table of settings"),
    ("wrong type", None, f"{RUN} --set training.cohort=many",
     "training.cohort = 'many': input should be a valid number"),
    ("true is no number", None, f"{RUN} --set adapter.rank=true",
     "adapter.rank = True: input should be a valid integer"),
    ("no whole number", None, f"{RUN} --set adapter.rank=6.0",
     "adapter.rank = 6.0: input should be a valid integer"),
    ("words for a number", None, f'{RUN} --set training.refresh_every="6"',
     "training.refresh_every = '6': input should be a valid integer"),
    ("out of range", None, f"{RUN} --set training.cohort=1.5",
     "training.cohort = 1.5: input should be less than or equal to 1"),
    ("not a number", None, f"{RUN} --set training.cohort=nan",
     "training.cohort = nan: input should be a finite number"),
    ("unknown word", None, f"{RUN} --set training.encoding=float8",
     "training.encoding = 'float8': input should be 'float32', 'float16', 'int8' or 'int4'"),
    ("rank 0", None, f"{RUN} --set adapter.rank=0",
     "adapter.rank = 0: input should be greater than or equal to 1"),
    ("negative seed", None, f"{RUN} --seed -1", "seed = -1: must be a whole number, 0 or more"),
    ("broken seed", None, f"{RUN} --set seed=1.5", "seed = 1.5: must be a whole number, 0 or more"),
    ("preset is a number", None, f"{RUN} --set preset=5",
     "preset = 5: must be one of colr, fedpeft, fedras, newton, paper, rqfedrec, none"),
    ("kind is a number", None, f"{RUN} --set adapter.kind=5",
     "adapter.kind = 5: must be one of full, hash, lora, rq"),
    ("kind is a list", None, f"{RUN} --set adapter.kind=[1]",
     "adapter.kind = [1]: must be one of full, hash, lora, rq"),
    ("codes from no text", None,
     f"{RUN} --preset paper --adapter rq --set items.base=none",
     "adapter.source = 'text' makes codes from the items' encoded texts, of which items.base = "
     "'none' has none; use another base, or adapter.source = 'table'"),
    ("a coded base beside a warm-up", None,
     f"{RUN} --adapter lora --set items.base_codes.levels=2 --set training.warmup_rounds=1",
     "items.base_codes make the download of the base smaller, but with training.warmup_rounds = 1 "
     "clients download the table that the warm-up ends with; set it to 0"),
    ("codes of no base", None,
     f"{RUN} --loss bpr --set items.base=none --set items.base_codes.levels=2",
     "items.base_codes need a base to stand for, which items.base = 'none' is not; use another "
     "base, or leave them out"),
    ("codes of a base that is not used", None,
     f"{RUN} --adapter lora --mode compress --set items.base_codes.levels=2",
     "items.base_codes stand for the base, and adapter.mode = 'compress' has none; use "
     "adapter.mode = 'peft', or leave them out"),
    ("a column without a name", spoilt.table, f"{DATA} --set data.columns.user=",
     "data.columns.user = '': string should have at least 1 character"),
    ("data without a name", None, "run --data= --out new",
     "data.source = '': string should have at least 1 character"),
    ("solve without least squares", None, f"{RUN} --loss bpr --set training.local=solve",
     "training.local = 'solve' needs loss.kind = 'ials', not 'bpr'; use training.local = "
     "'gradient' with it"),
    ("solve without decay", None, f"{RUN} --set training.local_decay=0",
     "training: local = 'solve' needs local_decay or frequency_decay above 0, got 0"),
    ("local parameters never trained", None,
     f"{RUN} --loss bpr --set training.local_steps=0",
     "training.local = 'gradient' with local_steps = 0 never trains clients' local "
     "parameters; set local_steps to 1 or more, or joint = true"),
    ("nothing to start from", None, f"{RUN} --set items.base=none",
     "items.base = 'none' starts every item vector at zero, where training.local = 'solve' never "
     "leaves; use another base, or adapter.mode = 'compress', which starts at random"),
    ("compress with warm-up", None, f"{RUN} --mode compress --set training.warmup_rounds=1",
     "training.warmup_rounds = 1 would not act: it needs an adapter with a base to merge into "
     "(mode 'peft', not the full table); leave it out, or change what it needs"),
    ("full table with a warm-up", None, f"{RUN} --adapter full --set training.warmup_rounds=1",
     "training.warmup_rounds = 1 would not act: it needs an adapter with a base to merge into "
     "(mode 'peft', not the full table); leave it out, or change what it needs"),
    ("eps of an optimiser without one", None,
     f"{RUN} --set training.server_optimizer.kind=sgd --set training.server_optimizer.eps=0.1",
     "training.server_optimizer.eps = 0.1 would not act: it needs kind = 'adam'; leave it out, or "
     "change what it needs"),
    ("solve with a local optimiser", None, f"{RUN} --set training.local_optimizer.lr=0.5",
     "training.local_optimizer.lr = 0.5 would not act: it needs local parameters that move by "
     "gradient (local_steps or joint); leave it out, or change what it needs"),
    ("generator settings for real data", spoilt.table, f"{DATA} --set data.synthetic.users=7",
     "data.synthetic.users = 7 would not act: it needs source = 'synthetic'; leave it out, or "
     "change what it needs"),
    ("old and new name", None, f"{RUN} --recipe paper --preset paper",
     "--recipe is called --preset now, and both are given; drop --recipe"),
    ("compress with refresh", None, f"{RUN} --mode compress --set training.refresh_every=5",
     "training.refresh_every = 5 would not act: it needs an adapter with a base to merge into "
     "(mode 'peft', not the full table) and with a subspace to renew (no codes from text); leave "
     "it out, or change what it needs"),
    ("more warm-up than rounds", None, f"{RUN} --set training.warmup_rounds=3",
     "training: warmup_rounds (3) must be below rounds (2)"),
    ("fused backend for the paper's preset", None, f"{RUN} --preset paper --backend fused",
     "backend 'fused' cannot be used because clients take more than one payload step; use 'vmap'"),
    ("more topics than items", None, f"{RUN} --set data.synthetic.items=40 "
     "--set data.synthetic.topics=41",
     "data.synthetic: topics = 41 must not exceed items = 40"),
    ("unknown adapter", None, f"{RUN} --adapter dora",
     "unknown adapter 'dora'; known are full, hash, lora, rq"),
    ("unknown backbone", None, f"{RUN} --backbone ncf",
     "unknown backbone 'ncf'; known are fedmf, fedncf, fedpergnn, pfedrec"),
    ("unknown loss", None, f"{RUN} --loss hinge",
     "unknown loss 'hinge'; known are bce, bpr, ials, softmax"),
    ("newton without a linear score", None, f"{RUN} --preset newton --backbone fedncf",
     "preset = 'newton' needs a score linear in the item vector, as FedMF and FedPerGNN have it; "
     "FedNCF has none: choose another preset"),
    ("newton for clients that personalise", None,
     f"{RUN} --preset newton --set training.inference=personalise",
     "training.server_optimizer.kind = 'newton' leaves the payload's steps to the server, so "
     "training.inference = 'personalise' has none to take; use 'fit' or 'stored'"),
    ("least squares without a linear score", None, f"{RUN} --backbone fedncf --loss ials",
     "the loss sums over all items, which needs a score linear in the item vector; FedNCF has "
     "none: choose loss.kind softmax, bpr or bce"),
    ("unknown preset", None, f"{RUN} --preset best",
     "preset = 'best': must be one of colr, fedpeft, fedras, newton, paper, rqfedrec, none"),
    ("unknown mode", None, f"{RUN} --mode both",
     "adapter.mode = 'both': input should be 'peft' or 'compress'"),
    ("unknown reader", spoilt.table, f"{DATA} --set data.reader=excel",
     "unknown data reader 'excel'; known are amazon_2018, amazon_2023, movielens_100k, "
     "movielens_1m, movielens_latest, recbole, table"),
    ("unknown encoder", None, f"{RUN} --set items.encoder=glove",
     "items.encoder: unknown item encoder 'glove'; known are array, sentence_transformers, tfidf"),
    ("array without a path", None, f"{RUN} --set items.encoder=array",
     "items.options: path is missing, and it has no default"),
    ("array of another kind", None,
     f"{RUN} --set items.encoder=array --set items.options.path=v.pt",
     "items.options: path: 'v.pt' must end in .npy or .safetensors"),
    ("option of another encoder", None, f"{RUN} --set items.options.model=x",
     "items.options: unknown key 'model'; known keys here are max_features, sample, seed, "
     "text_dim"),
]  # fmt: skip

FLAGS: list[Row] = [
    ("set without =", None, f"{RUN} --set training",
     "override 'training' must look like table.key=value"),
    ("set without a key", None, f"{RUN} --set =3", "override '=3' must look like table.key=value"),
    ("set inside a value", None, f"{RUN} --data synthetic --set data.source.x=3",
     "data.source is a value, so data.source.x cannot be set inside it"),
    ("rounds in words", None, f"{RUN} --rounds ten", "Invalid value for '--rounds': …; see fedpeft "
     "run --help"),
    ("negative rounds", None, f"{RUN} --rounds -1",
     "training.rounds = -1: input should be greater than or equal to 0"),
    ("no checkpoints", None, f"{RUN} --checkpoint-every 0",
     "Invalid value for '--checkpoint-every': …; see fedpeft run --help"),
    ("unknown option", None, f"{RUN} --epochs 3", "No such option…--epochs…see fedpeft run "
     "--help"),
    ("unknown verb", None, "teach", "No such command 'teach'; see fedpeft --help"),
    ("missing argument", None, "evaluate", "Missing argument …; see fedpeft evaluate --help"),
    ("unknown device", None, f"{RUN} --device tpu",
     "device 'tpu' is not here; use auto, cpu or cuda"),
    ("device without memory", None, f"{RUN} --device meta",
     "device 'meta' is not here; use auto, cpu or cuda"),
    ("unknown backend", None, f"{RUN} --backend fast",
     "--backend 'fast' must be auto, fused, vmap or sequential"),
    ("out holds something", written("new/x", "x"), RUN,
     "new exists and is not empty; choose another --out, or --resume new"),
    ("out is a file", written("new", "x"), RUN,
     "new cannot be a run folder because new is a file"),
    ("out below a file", written("x", "x"), f"{RUN} --out x/new",
     "x/new cannot be a run folder because {here}/x is a file"),
    ("unknown download", None, "data get netflix",
     "unknown data set 'netflix'; known are amazon-industrial, ml-100k, ml-1m, ml-latest-small"),
    ("resume with options", None, f"{RESUME} --rounds 3",
     "--resume goes on with the configuration in the run folder; it takes no other setting than "
     "--device, --backend, --checkpoint-every and --json; for other data or settings begin a run "
     "in another folder"),
    ("resume into", None, f"{RESUME} --out new",
     "--resume goes on with the configuration in the run folder; it takes no other setting than "
     "--device, --backend, --checkpoint-every and --json; for other data or settings begin a run "
     "in another folder"),
    ("resume nothing", None, "run --resume nothing",
     "nothing is not a run folder: it has no config.toml"),
    ("resume what is complete", None, RESUME,
     "run is complete: it has a result.json, so nothing is left to run"),
    ("resume on an unknown device", spoilt.unfinished, f"{RESUME} --device tpu",
     "device 'tpu' is not here; use auto, cpu or cuda"),
    ("unknown part", None, "evaluate run --part train",
     "--part 'train' must be validation or test"),
    ("evaluate nothing", None, "evaluate nothing",
     "nothing is not a run folder: it has no config.toml"),
    ("unknown user", None, "recommend run --user nobody@example.org",
     "there is no user 'nobody@example.org' in run; for someone who took no part: fedpeft "
     "recommend run --history ID,ID"),
    ("unknown user's traffic", None, "traffic run --user nobody@example.org --round 0",
     "there is no user 'nobody@example.org' in run"),
    ("user and history", None, f"{RECOMMEND} --history item-1",
     "give one of --user, --history and --all"),
    ("nobody to recommend to", None, "recommend run", "give one of --user, --history and --all"),
    ("all without a file", None, "recommend run --all",
     "--all and --out FILE.parquet belong together"),
    ("all into another format", None, "recommend run --all --out all.csv",
     "--out all.csv must be a file that ends in .parquet"),
    ("a history of nothing known", None, "recommend run --history x,y",
     "no item of the history is in the catalogue of run; run/catalogue.parquet has all ids"),
    ("a history without items", None, "recommend run --history ,",
     "no item of the history is in the catalogue of run; run/catalogue.parquet has all ids"),
    ("a history of two users", written("h.csv", "user_id,item_id\na,item-1\nb,item-2\n"),
     "recommend run --history h.csv", "h.csv has the rows of 2 users; a history is of one"),
    ("a history without the column", written("h.csv", "user_id,thing\na,item-1\n"),
     "recommend run --history h.csv",
     "h.csv has no column 'item_id', nor another usual name of the item; its columns are user_id, "
     "thing; name one in data.columns.item"),
    ("an empty history", written("h.txt", "\n"), "recommend run --history h.txt",
     "h.txt is empty"),
    ("export into a file", written("out", "x"), "export run --out out",
     "--out out is a file; name a folder to write to"),
    ("export nothing", None, "export nothing",
     "nothing is not a run folder: it has no config.toml"),
    ("nothing to recommend", None, f"{RECOMMEND} --top 0", "--top must be at least 1, got 0"),
    ("target out of range", None, "compare run --target 2",
     "target = 2.0: a validation NDCG@10 lies in (0, 1]"),
    ("compare nothing", None, "compare nothing",
     "nothing is not a run folder: there is no such folder"),
    ("compare a run with itself", None, "compare run run", "run folder run is given twice"),
    ("report over a folder", None, "compare run --html run",
     "--html run is a folder; name the file to write"),
]  # fmt: skip

FOLDERS: list[Row] = [
    ("checkpoint with a flipped bit", both(spoilt.unfinished, spoilt.flipped_byte), RESUME,
     f"{CHECKPOINT} is corrupt: its contents do not match their checksum"),
    ("checkpoint cut short", spoilt.cut(CHECKPOINT, 2000), RECOMMEND,
     f"{CHECKPOINT} is not a readable safetensors file: …"),
    ("checkpoint of a later version", spoilt.other_schema, RECOMMEND,
     f"{CHECKPOINT} has checkpoint schema 99; this version reads 3"),
    ("checkpoint is no tensor file", written(CHECKPOINT, "hello"), "evaluate run",
     f"{CHECKPOINT} is not a readable safetensors file: …"),
    ("checkpoint of another program", spoilt.foreign_tensors, "evaluate run",
     f"{CHECKPOINT} is not a fedpeft checkpoint"),
    ("no checkpoint", spoilt.removed(CHECKPOINT), "evaluate run",
     "run has no checkpoint yet; resume it with --resume run"),
    ("other data", replaced("run/config.toml", b"users = 60", b"users = 61"), "evaluate run",
     "run was made with other data: its split is …, the data now give …"),
    ("other rank", replaced("run/config.toml", b"rank = 4", b"rank = 5"), RECOMMEND,
     f"{CHECKPOINT} was saved with adapter.rank = 4, which is 5 now"),
    ("other items",
     both(spoilt.unfinished, replaced("run/config.toml", b"scale = 0.1", b"scale = 0.7")),
     RESUME, "the table items of run/config.toml was changed after the checkpoint was written; …"),
    ("other loss",
     both(spoilt.unfinished, replaced("run/config.toml", b"d_weight = ", b"d_weight = 1")),
     RESUME, "the table loss of run/config.toml was changed after the checkpoint was written; "
     "it was {{'kind': 'ials', 'unobserved_weight': …}}"),
    ("config spoilt", replaced("run/config.toml", b"rank = 4", b"rank = "), RECOMMEND,
     "config file run/config.toml is not valid TOML: …"),
    ("config of a later version", replaced("run/config.toml", b"schema 2", b"schema 9"), RECOMMEND,
     "run/config.toml has schema 9; this version of fedpeft reads schemas 1 to 2"),
    ("result of a later version", result(schema=9), "compare run",
     "run/result.json has schema 9; this version of fedpeft reads schemas 1 to 2"),
    ("log of a later version", replaced("run/metrics.jsonl", b'"schema": 2', b'"schema": 9'),
     "compare run",
     "run/metrics.jsonl, line 1 has schema 9; this version of fedpeft reads schemas 1 to 2"),
    ("users of a later version", spoilt.later_users, "compare run",
     "run/users.parquet has schema 9; this version of fedpeft reads schemas 1 to 2"),
    ("no result", spoilt.removed("run/result.json"), "compare run",
     "run/result.json does not exist"),
    ("result is not JSON", spoilt.cut("run/result.json", 100), "compare run",
     "run/result.json is not valid JSON: …"),
    ("result lacks a key", result(baselines=None), "compare run",
     "run/result.json has no key 'baselines'"),
    ("result of the wrong type", result(rounds="many"), "compare run",
     "run/result.json: 'rounds' = 'many': …"),
    ("metrics spoilt", written("run/metrics.jsonl", "{}\nx\n"), "compare run",
     "run/metrics.jsonl, line 1 has no key 'round'"),
    ("metrics are not JSON", replaced("run/metrics.jsonl", b"{", b"["), "compare run",
     "run/metrics.jsonl, line 1 is not valid JSON: …"),
    ("traffic goes back", lambda folder: (folder / "run/traffic.jsonl").write_text(
        "".join(reversed((folder / "run/traffic.jsonl").read_text().splitlines(keepends=True)))),
     "compare run", "run/traffic.jsonl, line 2 goes back from round 29 to 28"),
    ("users spoilt", written("run/users.parquet", "none"), "compare run",
     "run/users.parquet is not a readable Parquet file: …"),
    ("different splits", spoilt.other_split, "compare run other",
     "other used another split (…) than run (…), so their numbers are not comparable; "
     "--different-splits lists them all the same"),
]  # fmt: skip

ROWS = [*FILES, *CONFIGS, *FLAGS, *FOLDERS]
