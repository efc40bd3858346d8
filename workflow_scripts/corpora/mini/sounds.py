"""Words whose form depends on the adjacent sound: Korean particles and French elision."""

HANGUL_FIRST, HANGUL_LAST = "가", "힣"
FINALS_PER_SYLLABLE = 28  # a syllable is 가 + 28 x (its initial and vowel) + its final consonant, 0 for none
FINAL_RIEUL = 8
ELIDED = {"de": "ADP", "que": "SCONJ", "le": "DET", "la": "DET"}
ELIDING_INITIALS = "aeiouâàéèêëîïôœAEIOUÂÀÉÈÊËÎÏÔŒ"
FINAL_OF_DIGIT = {"0": 21, "1": 8, "3": 16, "6": 1, "7": 8, "8": 8}  # 영 일 삼 육 칠 팔


def with_particle(noun: str, particle: str) -> str:
    """Add the Korean particle that fits the noun's last sound.

    `particle` names both shapes, the one after a consonant first: `은/는`, `이/가`, `을/를`, `과/와`, `으로/로`.
    After a final ㄹ it is `로`, as after a vowel. A particle with one shape is given twice: `에/에`.
    """
    after_consonant, after_vowel = particle.split("/")
    final = _final(noun[-1])
    if final == FINAL_RIEUL and after_consonant.startswith("으로"):
        final = 0
    return noun + (after_consonant if final else after_vowel)


def _final(character: str) -> int:
    if HANGUL_FIRST <= character <= HANGUL_LAST:
        return (ord(character) - ord(HANGUL_FIRST)) % FINALS_PER_SYLLABLE
    return FINAL_OF_DIGIT.get(character, 0)


def elide(word: str, following: str) -> tuple[str, str]:
    """Shorten French `de`, `que`, `le` or `la` before a vowel: the word as written, and its UPOS."""
    shortened = f"{word[:-1]}'" if following[:1] in ELIDING_INITIALS else word
    return shortened, ELIDED[word]
