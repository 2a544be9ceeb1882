"""What the words of a question mean to a search: stems, stop words, synonyms."""

import re
import unicodedata
from functools import lru_cache

WORD = re.compile(r"[^\W_]+(?:['.][^\W_]+)*")


def words(text: str) -> list[str]:
    """Lower case, without accents, phrases made one word; 4.99 stays one, and so does don't."""
    text = _plain(text)
    for phrase, word in PHRASES:
        text = phrase.sub(word, text)
    return WORD.findall(text)


def words_as_said(text: str) -> list[str]:
    return WORD.findall(_plain(text))


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKD", text.casefold().replace("’", "'"))
    return "".join(char for char in text if not unicodedata.combining(char))


def terms(text: str) -> list[str]:
    """Stems of the words that carry a meaning, synonyms made one."""
    return [term(word) for word in words(text) if word not in STOP_WORDS]


@lru_cache(maxsize=20_000)
def term(word: str) -> str:
    base = stem(word.removesuffix("'s"))
    return SYNONYMS.get(base, base)


def stem(word: str) -> str:
    """Light: plurals, -ing, -ed, -ment, -ation, -ery. Over-cutting would merge what differs."""
    if len(word) <= 3 or any(char.isdigit() for char in word):
        return word
    if word.endswith(("ss", "us")):
        return word
    for suffix, least in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= least:
            word = word[: -len(suffix)]
            doubled = len(word) > 3 and word[-1] == word[-2] and suffix in {"ed", "ing", "ation"}
            if doubled and word[-1] not in "sz":
                word = word[:-1]
            break
    if len(word) > 4:
        word = word.removesuffix("e").removesuffix("y").removesuffix("i")
    return word


SUFFIXES = tuple(
    (suffix, least)
    for least, suffixes in (
        (5, ("eries", "ery")),
        (4, ("ations", "ation", "ly")),
        (3, ("ments", "ment", "ings", "ing", "ied", "ies", "ed")),
        (4, ("es",)),
        (3, ("s",)),
    )
    for suffix in suffixes
)


PHRASES = tuple(
    (re.compile(rf"(?<!\w)(?:{phrase})\b"), word)
    for phrase, word in (
        (r"(?:money|cash)[ -]?back(?! guarantee)", "refund"),
        (r"(?:send|give|bring|take|sent|giving|sending|bringing)((?: \w+){0,3}?) back",
         r"return\1"),
        (r"(?:gift|store|shop)[ -]?(?:card|voucher|certificate)(?=s?\b)", "giftcard"),
        (r"(?:gift|store)[ -](?:cards|vouchers|certificates)", "giftcard"),
        (r"(?:log|sign)(?:ged|ging|ing)?[ -]?(?:in|on)\b(?! for)", "login"),
        (r"sign(?:ing)?[ -]up", "register"),
        (r"(?:get|getting) in touch|(?:talk|speak|talking|speaking) (?:to|with)", "contact"),
        (r"(?:opening|business|working) (?:hours|times?)|what time do you (?:open|close)"
         r"|when (?:are|do) you open|are you open|open on", "shop open"),
        (r"one[ -]size", "onesize"),
        (r"call(?:ing)? off", "cancel"),
        (r"customer (?:service|support|care)|help ?desk", "contact"),
        (r"click (?:and|&) collect|pick(?:ing)? (?:it |them |this |my \w+ )?up", "collect"),
        (r"trade[ -]in", "tradein"),
        (r"e-mail", "email"),
        (r"% off", "% discount"),
        (r"free of charge", "free"),
        (r"a lot|lots", "much"),
        (r"second[ -]hand", "used"),
        (r"u\.?s\.?a\b|united states|\bthe us\b", "usa"),
        (r"united kingdom|great britain", "uk"),
        (r"(?:shopping )?spree", "spree"),
        (r"how old", "age"),
        (r"how heavy", "weight"),
    )
)  # fmt: skip

STOP_WORDS = frozenset(
    """
    a about after again all also am an and any are aren't as at be been being both but by
    can can't cannot could couldn't did didn't do does doesn't doing don't down each else ever
    few for from get gets getting got had has hasn't have haven't having he her here hers him
    his how however i i'd i'll i'm i've if in into is isn't it it's its itself just let like
    me might mine more most much many must my myself no nor not now of off on once only or
    other our ours out over own per please put same say she should shouldn't so some still
    such than that that's the their them then there there's these they they're this those
    through to too under until up upon us very was wasn't we we're were what what's when where
    where's whether which while who whom whose why will with won't would wouldn't yes yet
    you you'd you'll you're you've your yours hi hello hey ok okay thanks thank well really
    actually maybe perhaps quite rather tell know want wanted wants need needs needed think
    wonder wondering hope could've may shall using use used going go goes gonna wanna bit
    able possible possibly allowed explain question help long often soon kind sort way ways
    mean means happen happens happened happening anything something everything nothing
    someone somebody anyone anybody everyone quickly currently today already before without
    because between during since though around back else's given give
    does't dont cant whats im ive
    """.split()
)

GENERIC_WORDS = """
    standard parcel thing stuff item product goods order buy purchase shop store company
    site website online day time week month year people person customer work try
    ask find look see come take leave
    keep start end begin good bad big small different another first second last next
    one two three number amount part place case problem issue trouble information info detail
    policy rule term condition option offer service provide accept deal procedure process
    receive bring set done possible house own right sure normal usual regular exactly
    long short total general currently available have ever actually
    method hour minute combine pound euro dollar make
    sell stock carry choose pick decide check show read call name wait hear happen hold count
    """.split()

SYNONYM_GROUPS = (
    "deliver delivery deliveries ship shipping shipment shipped dispatch post postage send sent"
    " mail arrive arrives",
    "parcel package",
    "return returning returns",
    "refund reimburse reimbursement",
    "cost costs price prices fee fees charge charges pricing expensive cheap",
    "pay payment payments paid paying",
    "exchange swap swapping",
    "broken damaged damage faulty defective defect fault broke crack cracked torn ripped",
    "warranty guarantee guarantees guaranteed",
    "giftcard voucher vouchers",
    "discount discounts coupon promo promotion promotional",
    "sale reduced clearance outlet",
    "account profile",
    "register registration",
    "cancel cancellation cancelling",
    "phone telephone ring",
    "contact reach",
    "delete erase remove deletion",
    "abroad international internationally overseas foreign",
    "size sizing",
    "wash washing laundry",
    "invoice invoices bill",
    "kid kids child children",
    "express fast quick faster quicker",
    "late delay delayed delays overdue",
    "lost missing vanished disappear",
    "wrong incorrect mistaken",
    "repair repairs fix fixing mend mending",
    "instalment instalments installment installments",
    "newsletter newsletters",
    "job jobs vacancy vacancies",
    "sustainable sustainability green eco environment environmental",
    "recycle recycling recycled",
    "collect collection pickup",
    "student students",
    "member membership members club",
    "point points",
    "open opening opened",
    "hour hours",
    "receipt receipts",
    "proof prove",
    "allergic allergy allergies allergen",
    "vat tax taxes",
    "duty duties customs",
    "wrap wrapping wrapped",
    "track tracking tracked",
    "expire expiry expires expiration valid",
    "data privacy gdpr personal",
    "colour color colours colors",
    "cheque check",
    "country countries",
    "weekend weekends",
    "staff employee employees",
    "waterproof waterproofing reproof proofing",
    "wear wears wearing worn wore",
    "outdoors outside outdoor",
    "rent rental renting hire hired hiring borrow",
    "make makes made making manufacture manufactured produce produced",
    "knife knives",
    "leaf leaves",
    "shelf shelves",
    "buy bought buying",
    "lose losing",
    "keep kept",
    "sell sold selling",
    "minimum least",
    "maximum most",
    "britain british uk",
)

# What the word of a question may stand for in a passage; not the other way round.
NARROWER = (
    ("card", "visa mastercard amex debit credit"),
    ("weekend", "saturday sunday"),
    ("saturday", "weekend"),
    ("sunday", "weekend"),
    ("abroad", "country europe european eu outside"),
    ("bitcoin", "cryptocurrency crypto"),
    ("ethereum", "cryptocurrency crypto"),
    ("crypto", "cryptocurrency bitcoin"),
    ("france germany spain italy ireland portugal poland austria belgium netherlands sweden"
     " denmark finland greece", "european"),
    ("europe", "european eu"),
    ("eu", "european europe"),
    ("usa america", "usa"),
    ("giftcard", "gift"),
    ("gift", "giftcard"),
    ("store", "shop"),
    ("shop", "store"),
    ("shoe shoes", "boot trainer"),
    ("boot boots", "shoe"),
    ("coat", "jacket"),
    ("crypto", "cryptocurrency"),
    ("christmas", "december"),
    ("discount", "sale code"),
    ("sale", "discount"),
    ("weight", "kg gram"),
    ("age", "aged year adult"),
    ("contact", "phone email chat call"),
    ("phone", "call telephone"),
    ("wash", "clean detergent"),
    ("clean", "wash"),
    ("instalment", "credit"),
    ("exchange", "size"),
    ("delete", "close"),
    ("login", "password account"),
    ("lost", "lose"),
    ("lose", "lost"),
    ("pet", "dog cat"),
    ("make", "come sewn woven"),
    ("job", "career"),
    ("cancel", "withdraw"),
    ("buy", "order purchase"),
    ("order", "purchase"),
    ("purchase", "order buy"),
)  # fmt: skip

SYNONYMS = {
    stem(word): stem(group.split()[0]) for group in SYNONYM_GROUPS for word in group.split()
}
GENERIC = frozenset(term(word) for word in GENERIC_WORDS)
NARROWER_TERMS: dict[str, frozenset[str]] = {}
for _left, _right in NARROWER:
    for _word in _left.split():
        NARROWER_TERMS[term(_word)] = NARROWER_TERMS.get(term(_word), frozenset()) | frozenset(
            map(term, _right.split())
        )
