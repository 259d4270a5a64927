"""Does this implementation of the block formats conform? `python -m hifi_ref.conform TARGET` judges it.

Data flows one way: cases -> target -> judge -> diagnose -> report.

    cases      what is asked and what is expected: the golden vectors, and at level 2 what bulk draws
    target     who is asked: line_target speaks a line protocol with a process of its own, so that a crash or a hang
               is a finding; serve is that process for ggml's shared libraries, Python modules and gguf-py
    judge      each answer's outcome, and each cell's: one format, one operation
    locate     the first divergence of an answer: block, field, expected and observed
    diagnose   what is wrong, where it matches a known bug or one of the general patterns
    xfail      failures that are expected, each with its reason
    dump       one case whole, for somebody who debugs it
    report     what was found, as records; report_text, report_json, report_junit, report_html and report_markdown show
               it, in the words of report_lines
    command    the command line; pytest_plugin is the same in a pytest run
"""
