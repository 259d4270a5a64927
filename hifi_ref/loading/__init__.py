"""Would the pinned llama.cpp release (v0.5.0) load this file? A judgement from metadata and tensor shapes alone.

    from hifi_ref.loading import judge
    verdict = judge([open_gguf("model.gguf")])      # or all shards of a model

"loads" means that with the library's own parameters, on the CPU, `llama_model_load_from_file` and then
`llama_init_from_model` (a context of 512 tokens) both succeed; nothing is computed, and memory is taken to be enough.

judge             the verdict, and what it rests on; report what it is collected in
metadata          values read as the release reads them, with their kinds
tables            what each family reads and asks for, one file a family; read by tables.py
hyper_parameters  the numbers, and what the release asserts of them
tokenizer         vocabulary, merges, special tokens; chat_template what tools make of the template
tensors           the tensors that the numbers ask for, held against those that are there
attention         what building the graph of a context asserts
shards            several files that are one model; other_files what is no model at all
"""

from hifi_ref.loading.judge import judge
from hifi_ref.loading.report import Problem, Verdict

__all__ = ["Problem", "Verdict", "judge"]
