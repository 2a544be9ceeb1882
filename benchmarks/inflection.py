"""English verb forms and word order, as far as the invented messages need them."""

import re
from collections.abc import Callable

# base: past, participle; a single form serves for both.
IRREGULAR = {
    line.split()[0]: (line.split()[1], line.split()[-1])
    for line in """
be was been;become became become;begin began begun;bet bet;bite bit bitten;blow blew blown
break broke broken;bring brought;build built;buy bought;catch caught;choose chose chosen
come came come;cost cost;cut cut;deal dealt;dig dug;do did done;draw drew drawn;drink drank drunk
drive drove driven;eat ate eaten;fall fell fallen;feed fed;feel felt;fight fought;find found
fly flew flown;forget forgot forgotten;freeze froze frozen;get got;give gave given;go went gone
grow grew grown;hang hung;have had;hear heard;hide hid hidden;hit hit;hold held;hurt hurt;keep kept
know knew known;lay laid;lead led;learn learned;leave left;lend lent;let let;lie lay lain
lose lost;make made;mean meant;meet met;pay paid;put put;quit quit;read read;reset reset
ride rode ridden;ring rang rung;rise rose risen;run ran run;say said;see saw seen;sell sold
send sent;resend resent;set set;sew sewed sewn;shake shook shaken
shine shone;shoot shot;show showed shown
shut shut;sing sang sung;sink sank sunk;sit sat;sleep slept;speak spoke spoken;spell spelled
spend spent;spin spun;split split;spread spread;stand stood;steal stole stolen;stick stuck
swim swam swum;swing swung;take took taken;teach taught;tear tore torn;tell told;think thought
throw threw thrown;undo undid undone;understand understood;upload uploaded;wake woke woken
wear wore worn;win won;withdraw withdrew withdrawn;write wrote written;rewrite rewrote rewritten
rebuild rebuilt;redo redid redone;repay repaid;rebook rebooked;bend bent;weave wove woven
overwrite overwrote overwritten;input input;light lit;sweep swept;burn burned;proofread proofread
broadcast broadcast;foresee foresaw foreseen;dream dreamed;kneel knelt;lean leaned;mow mowed mown
""".replace("\n", ";").split(";")
    if line
}
DOUBLED = set(
    """
ban bar beg blog chat chop clip control debug dim drag drop drum equip fit flip format grab hem hop
hug jog knit log map nap net nod occur opt pad pat permit pet pin plan plot plug pop prefer
program prop refer regret rip rob rub scan scrap ship shop sip skip slim slip snap spot step stir
stop strap strip submit swap tag tap tip top transfer transmit trim trip unplug
wrap zip outfit sum admit commit unpin whip bat dip
""".split()
)
DOUBLED_IN_GERUND = set(
    "begin bet cut dig forget get hit input let put quit reset run set shut sit spin split swim "
    "win".split()
)
ADVERBS = set(
    "already also actually always even ever normally often only really still typically usually "
    "automatically currently just never".split()
)
AUXILIARY = (
    "isn't|aren't|wasn't|weren't|doesn't|don't|didn't|can't|couldn't|won't|wouldn't|shouldn't|"
    "hasn't|haven't|is|are|was|were|am|do|does|did|can|could|will|would|should|must|has|have|had|"
    "may|might"
)
QUESTION = re.compile(rf"^(.*?)\b({AUXILIARY}) \[(.+?)\] ?(.*)$")
PRONOUN = re.compile(r"\b(should|do|did|can|am|will|could) (i|you|we|they)\b")
STATEMENT = re.compile(r"^((?:the|my|our) [\w ]+?) (is|was|has|needs|feels|keeps)\b")
NUMBERED = re.compile(r"\b(is|are|was|were|do|does|has|have) \[(.+?)\]")
SINGULAR_OF = {"are": "is", "were": "was", "do": "does", "have": "has"}
PLURAL_OF = {singular: plural for plural, singular in SINGULAR_OF.items()}
PLURAL_VERBS = {**PLURAL_OF, "needs": "need", "feels": "feel", "keeps": "keep"}
PLURALS = set(
    "people children men women feet teeth mice sheep police geese lice we they you".split()
)
SINGULARS = set(
    """
gas bus christmas tennis physics maths mathematics athletics gymnastics lens chess darts news paris
venus mars diabetes dallas athens angeles brussels vegas aires orleans honduras asparagus hummus
basics cyprus texas kansas atlas tajikistan measles shingles basis analysis economics
easter snooker bus bias chaos oedipus yes mumps series mars radius dominoes checkers charades
 wales backgammon
""".split()
)
ARTICLE = re.compile(
    r"\b([aA]) (?=(?!uni(?!n)|us[aeiu]|euro|one\b|once|u[bk]\b|uk\b|ut[ei]|ufo)[aeiouAEIO]"
    r"|hour|honest|heir|honou?r|MRI|SMS|SSL|LED|HR\b|NDA|FAQ|8\b|11\b|18\b|x-ray)"
)


def gerund(phrase: str) -> str:
    return inflected(phrase, ing)


def past(phrase: str) -> str:
    return inflected(phrase, lambda verb: IRREGULAR[verb][0] if verb in IRREGULAR else ed(verb))


def participle(phrase: str) -> str:
    return inflected(phrase, lambda verb: IRREGULAR[verb][1] if verb in IRREGULAR else ed(verb))


def third_person(phrase: str) -> str:
    return inflected(phrase, es)


def indirect(question: str) -> str:
    """ "how long does [a refund] take" -> "how long a refund takes"; no wh-word gives "if".

    A question without a bracketed subject keeps its word order ("who pays for that").
    """
    match = QUESTION.match(
        re.sub(PRONOUN, r"\1 [\2]", question) if "[" not in question else question
    )
    if match is None:
        return re.sub(r"[\[\]]", "", question)
    wh, auxiliary, subject, rest = match.groups()
    if auxiliary == "do":
        clause = f"{subject} {rest}"
    elif auxiliary == "does":
        clause = f"{subject} {third_person(rest)}"
    elif auxiliary == "did":
        clause = f"{subject} {past(rest)}"
    else:
        clause = f"{subject} {auxiliary} {rest}"
    return f"{wh.strip() or 'if'} {clause}".strip()


def agreeing(question: str) -> str:
    """ "how much is [eggs]" -> "how much are [eggs]"."""

    def agreed(match: re.Match[str]) -> str:
        verb, subject = match.groups()
        if subject in ("i", "there"):
            return match[0]
        table = PLURAL_OF if is_plural(subject) else SINGULAR_OF
        return f"{table.get(verb, verb)} [{subject}]"

    return NUMBERED.sub(agreed, question)


def agreeing_statement(clause: str) -> str:
    """ "the tyres is worn" -> "the tyres are worn"."""
    match = STATEMENT.match(clause)
    if match is None or not is_plural(match[1]):
        return clause
    subject, verb = match.groups()
    return f"{subject} {PLURAL_VERBS.get(verb, verb)}{clause[match.end() :]}"


def is_plural(noun_phrase: str) -> bool:
    head = re.split(r" (?:of|for|in|with|from|to|at|on|between|that|about)\b", noun_phrase)[0]
    last = head.split()[-1].lower()
    if last in PLURALS or " and " in head:
        return True
    if re.match(r"(an?|this|that|each|every|one) ", head) or last in SINGULARS:
        return False
    return last.endswith("s") and not last.endswith(("ss", "us", "is", "'s"))


def with_articles(text: str) -> str:
    """ "a apple" -> "an apple"."""
    return ARTICLE.sub(lambda match: f"{match[1]}n ", text)


def inflected(phrase: str, form: Callable[[str], str]) -> str:
    words = phrase.split(" ")
    at = next((n for n, word in enumerate(words) if word not in ADVERBS), 0)
    words[at] = form(words[at])
    return " ".join(words)


def ing(verb: str) -> str:
    if verb in DOUBLED or verb in DOUBLED_IN_GERUND:
        return verb + verb[-1] + "ing"
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return verb[:-1] + "ing"
    return verb + "ing"


def ed(verb: str) -> str:
    if verb in DOUBLED:
        return verb + verb[-1] + "ed"
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ied"
    return verb + "ed"


def es(verb: str) -> str:
    if verb in ("be", "have"):
        return {"be": "is", "have": "has"}[verb]
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ies"
    return verb + "s"
