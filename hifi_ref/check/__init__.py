"""Is this GGUF file sound, and is it what the reference would have written? `python -m hifi_ref.check FILE.gguf`.

Data flows one way: file -> findings, and with a source: ways -> tallies -> meaning -> verdict -> report.

    payload     holds every block against its format's rules
    damage      what storage and transfer do, found without the source
    comparison  the data: what is compared with what, and what came of it
    reproduce   the ways in which a tensor may have been encoded, and the encoding anew
    tally       what is counted where blocks differ: fields, errors, a map
    meaning     what a difference stands for: damage, another arithmetic, another encoder, another source
    compare     all tensors of a file against its source; resume continues one that was interrupted
    verdict     the findings and the sentence that come of it
    report      the text; report_json and report_html likewise; drawings of the page
    command     the command line
"""
