"""Languages: the facts of a code, checked against Unicode's character database and against well-known languages."""

import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import yaml

from workflow_scripts.core.languages import Language, is_known, language

ROOT = Path(__file__).parents[1]


def codes_of(task: str) -> list[str]:
    return yaml.safe_load((ROOT / f"tasks/{task}.yaml").read_text(encoding="utf-8"))["languages"]


BUILT_IN = sorted(path.stem for path in (ROOT / "tasks").glob("*.yaml"))


def test_the_forms_of_codes_in_datasets() -> None:
    assert language("zho_Hans") == Language("zho_Hans", "Chinese", "中文", "ltr", "Hans", "Sino-Tibetan")
    assert language("arb_Arab") == Language("arb_Arab", "Standard Arabic", "العربية", "rtl", "Arab", "Afro-Asiatic")
    assert language("nqo_Nkoo") == Language("nqo_Nkoo", "N’Ko", "ߒߞߏ", "rtl", "Nkoo", "Artificial Language")
    assert language("de") == Language("de", "German", "Deutsch", "ltr", "Latn", "Indo-European")
    assert language("pcm") == Language("pcm", "Nigerian Pidgin", "Naijíriá Píjin", "ltr", "Latn", "Indo-European")


@pytest.mark.parametrize("code", ["zh", "zho", "chi", "ZH", "zh-Hans", "zho_hans", "zh-CN", "zh_Hans_CN"])
def test_spellings_of_one_language(code: str) -> None:
    facts = language(code)
    assert (facts.name, facts.native, facts.script) == ("Chinese", "中文", "Hans")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("zho_Hant", "Chinese (Traditional)"),
        ("zh-TW", "Chinese (Taiwan)"),
        ("pt-br", "Portuguese"),
        ("pt-PT", "Portuguese (Portugal)"),
        ("hin_Latn", "Hindi (Latin)"),
        ("eng_Latn", "English"),
        # ISO 639-3 names it "Swahili (individual language)"; only the macrolanguage `sw` has a likely script in CLDR.
        ("swh_Latn", "Swahili"),
        # CLDR would replace these by Filipino, Akan and Persian.
        ("tl", "Tagalog"),
        ("tgl_Latn", "Tagalog"),
        ("twi", "Twi"),
        ("prs_Arab", "Dari"),
    ],
)
def test_names_show_script_and_region_only_where_they_are_unusual(code: str, name: str) -> None:
    assert language(code).name == name


@pytest.mark.parametrize(
    ("code", "family"),
    [
        ("eu", "Basque"),  # an isolate is its own family
        ("ja", "Japonic"),
        ("quy", "Quechuan"),
        ("qu", "Quechuan"),  # a macrolanguage has no entry in Glottolog
        ("nah", "Uto-Aztecan"),  # neither has a collection of languages
        ("oto", "Otomanguean"),
        ("sw", "Atlantic-Congo"),
        ("mt", "Afro-Asiatic"),
        ("hu", "Uralic"),
        ("vi", "Austroasiatic"),
    ],
)
def test_families(code: str, family: str) -> None:
    assert language(code).family == family


@pytest.mark.parametrize("code", ["qaa", "xx", "minangkabau", "eng_Xyzq", "und", "", "x-mine", "a b"])
def test_an_unknown_code_is_its_own_name(code: str) -> None:
    assert not is_known(code)
    assert language(code) == Language(code, code, code)
    assert language(code).script_name == language(code).base_script == ""


@pytest.mark.parametrize("task", BUILT_IN)
def test_every_language_of_a_built_in_dataset_is_known_by_a_name_of_its_own(task: str) -> None:
    facts = [language(code) for code in codes_of(task)]
    assert [each.code for each in facts if not is_known(each.code) or not each.family] == []
    # CLDR has no script for a code of several languages, such as `nah`.
    assert [each.code for each in facts if not each.script and not each.name.endswith("languages")] == []
    assert [name for name, number in Counter(each.name for each in facts).items() if number > 1] == []


def test_directions_are_those_of_the_letters_of_the_native_name() -> None:
    """Directions come from CLDR's locales; Unicode says independently which way each letter runs."""
    codes = {code for task in BUILT_IN for code in codes_of(task)}
    # A name in ASCII is often the English one, and does not reveal the script.
    named = [each for each in map(language, codes) if not each.native.isascii()]
    assert len(named) > 80

    def runs(name: str) -> str:
        letter = next(letter for letter in name if letter.isalpha())
        return "rtl" if unicodedata.bidirectional(letter) in {"R", "AL"} else "ltr"

    assert [each for each in named if runs(each.native) != each.direction] == []
    assert sum(each.direction == "rtl" for each in named) > 10


def test_script_names() -> None:
    assert language("rus_Cyrl").script_name == language("rus_Cyrl").base_script == "Cyrillic"
    assert [language(code).script_name for code in ("zh", "yue_Hant")] == ["Han (Simplified)", "Han (Traditional)"]
    assert {language(code).base_script for code in ("zho_Hans", "zho_Hant", "yue", "zho_Hani")} == {"Han"}
    assert (language("urd_Aran").script_name, language("urd_Aran").base_script) == ("Arabic (Nastaliq)", "Arabic")
    assert language("ko").script == "Kore"


def test_the_module_is_cheap_to_import() -> None:
    """The Snakefile and the report import it: the packages and their tables wait for the first call."""
    code = (
        "import sys; import workflow_scripts.core.languages;"
        "print(sorted({'langcodes', 'language_data', 'babel', 'pandas', 'numpy', 'urielplus'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_urielplus_is_read_without_importing_it() -> None:
    code = (
        "import sys; from workflow_scripts.core.languages import language;"
        "print(language('sw').family, 'pandas' in sys.modules, 'urielplus' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Atlantic-Congo False False"
