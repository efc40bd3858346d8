"""Analysis of text representations: vectors of parallel texts, before and after tuning (paper, section 5)."""
