"""Named entities (PAN-X, MasakhaNER, Universal NER): spans of words, each of one type, as IOB2 tags."""
