"""How an encoder searches: its trials, recorded while it runs, and what would have been best.

recording   the local variables of a run;       trials     a format's searches, read from them
optimum     the best there is, found apart      data       a search as data
page        its part of a format's page;        drawings   its pictures
"""
