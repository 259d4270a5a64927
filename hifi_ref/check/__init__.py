"""Is this GGUF file sound, and is it what the reference would have written? `python -m hifi_ref.check FILE.gguf`.

Data flows one way: files -> findings, and with a source: ways -> tallies -> meaning -> findings -> verdict -> report.

    look        a model's files looked at for themselves
    shards      holds the files of one model against each other
    loads       whether llama.cpp would load it
    recipe      which mixture of types it follows
    payload     holds every block against its format's rules
    damage      what storage and transfer do, found without the source
    comparison  the data: what is compared with what, and what came of it
    reproduce   the ways in which a tensor may have been encoded, and the encoding anew
    tally       what is counted where blocks differ: fields, errors, a map
    meaning     what a difference stands for: damage, another arithmetic, another encoder, another source
    compare     all tensors of a file against its source; resume continues one that was interrupted
    differences what the comparison found, as findings
    importance  how far an importance matrix goes
    metadata    the metadata held against the source's
    verdict     what it comes to, and the sentence that a publisher may sign
    hashes      digests of files, tensors and metadata, made in the same pass
    report      the text; report_json and report_html likewise; drawings of the page
    attestation what was seen, as a statement to be signed
    verify      a download held against such a statement
    ignoring    what --ignore passes over
    batch       the text and the JSON of several models
    arguments   the flags
    command     the command line
"""
