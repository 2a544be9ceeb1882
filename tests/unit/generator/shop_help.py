"""The help centre of an invented shop for house plants, and questions to it.

The support threshold of the embedded generator was chosen on these.
"""

from generator.documents import passages_of
from generator.interface import Passage

PLANT_SHOP = """\
# Leaf & Pot help

## Shipping costs
Shipping within Germany costs 4.90 € per order. From 75 € we ship free of charge. Bulky plants
over 120 cm are shipped for 14.90 €. Shipping to Austria costs 9.90 €.

## Shipping times
Orders placed before 1 p.m. leave our greenhouse the same day. A parcel is on the road for 1 to 3
working days. We do not ship on Fridays, so that no plant spends the weekend in a van. Express
shipping is not offered.

## Frost protection
Between November and March we add a heat pack to each parcel for 2.50 €. Below -8 °C we hold the
parcel back and write you an email.

## Damaged plants
If a plant arrives damaged, send a photo to help@leafandpot.example within 48 hours. We then send
a new plant or refund the price, whichever you like better. You need not send the damaged plant
back.

## Returns
Pots and tools can be returned within 30 days, unused and in their packaging. Living plants can be
returned within 14 days only. The return label costs 3.90 €, which we deduct from the refund.

## Refunds
We refund within 7 days of receiving your return. The money goes to the account or card that you
paid with.

## Ways to pay
You can pay with:

- Visa and Mastercard
- PayPal
- **SEPA** direct debit
- invoice, due after 14 days (from the second order on)

We do not store card numbers.

## Vouchers
Gift vouchers are available from 10 € to 250 €. A voucher is valid for three years. Vouchers
cannot be exchanged for cash.

## Discount codes
Enter a discount code in the basket, below the list of items. Only one code can be used per order.
Codes do not apply to vouchers.

## Your account
To reset your password, choose *Forgot password* on the login page; the link is valid for 2 hours.
You can change your address under **My data**. To delete your account, write to
privacy@leafandpot.example; we delete it within 10 days.

## Cancelling an order
An order can be cancelled until it has left the greenhouse. Open the order and choose *Cancel*.
After that, please refuse the parcel or return it.

## Changing an order
We cannot add items to an order that was placed. Please place a second one; shipping is then
charged only once if both leave on the same day.

## Tracking
You receive the tracking link by email as soon as the parcel leaves. If the link shows nothing for
three days, please call us.

## Growth guarantee
Every plant has a growth guarantee of 60 days. If it dies in this time, we replace it once. Frost
damage and drowning are not covered. The guarantee does not cover plants marked as *rescue plants*.

## Rescue plants
Rescue plants are plants with small flaws that we sell at half price. They cannot be returned.

## Repotting
We repot your plant for 5 € when you buy a pot with it. Our soil is free of peat. A new pot should
be 2 to 4 cm wider than the old one.

## Watering
Most house plants want water once a week in summer and every two weeks in winter. Put a finger
2 cm deep into the soil: if it is dry, water it. Cacti need water once a month.

## Fertiliser
Fertilise from March to September, every 14 days. Our liquid fertiliser lasts for about 40 litres
of water.

## Pets
These plants are safe for cats and dogs: spider plant, calathea, areca palm. Monstera, dieffenbachia
and lilies are poisonous to cats.

## Pests
Against fungus gnats, hang up yellow boards and keep the soil dry. Spider mites are washed off in
the shower.

## Our shop in Leipzig
You find us at Lindenstraße 12 in Leipzig. The shop is open from Tuesday to Saturday, 10 a.m. to
6 p.m. Dogs are welcome on a lead. There are four parking spaces behind the house.

## Collecting an order
You can collect orders in the Leipzig shop free of charge. We keep them for 5 days. Please bring
the order number.

## Workshops
Our repotting workshop takes place on the first Saturday of the month and costs 35 €. At most
12 people can take part. Book it at https://leafandpot.example/workshops.

## Newsletter
The newsletter comes twice a month. You unsubscribe with the link at its end.

## Contact
Call us at 0341 555 0199 from Monday to Friday, 9 a.m. to 4 p.m. Emails are answered within one
working day.

## Packaging
Our boxes are made of recycled cardboard. We use no plastic; pots are wrapped in paper.
"""

PASSAGES: tuple[Passage, ...] = tuple(passages_of("help.md", PLANT_SHOP))

# The question, and what its answer must contain.
ANSWERABLE: tuple[tuple[str, str], ...] = (
    ("How much is shipping?", "4.90 €"),
    ("what does delivery to Austria cost", "9.90 €"),
    ("Is delivery free for big orders?", "From 75 €"),
    ("how long does delivery take?", "1 to 3"),
    ("when will my parcel arrive", "1 to 3"),
    ("Do you offer express delivery?", "not offered"),
    ("Do you ship on Fridays?", "not ship on Fridays"),
    ("what happens when it freezes, do you add a heat pack?", "2.50 €"),
    ("my plant arrived broken, what should I do?", "48 hours"),
    ("Do I have to send the damaged plant back?", "need not send"),
    ("How long can I return a pot?", "30 days"),
    ("can i send a living plant back", "14 days"),
    ("how much does the return label cost", "3.90 €"),
    ("When do I get my money back?", "within 7 days"),
    ("Can I pay with PayPal?", "PayPal"),
    ("which payment methods do you accept?", "SEPA"),
    ("can I pay by invoice", "invoice, due after 14 days"),
    ("How long is a voucher valid?", "three years"),
    ("do gift cards expire?", "three years"),
    ("where do I enter a discount code?", "in the basket"),
    ("Can I combine two discount codes?", "Only one code"),
    ("I forgot my password", "Forgot password"),
    ("how do I change my address", "My data"),
    ("please delete my account", "privacy@leafandpot.example"),
    ("how can I cancel my order?", "Cancel"),
    ("Can I add something to my order?", "cannot add"),
    ("how do i track my parcel", "tracking link"),
    ("what if my plant dies?", "replace it once"),
    ("does the guarantee cover frost?", "not covered"),
    ("can rescue plants be returned", "cannot be returned"),
    ("what are rescue plants", "small flaws"),
    ("how often should I water cacti?", "once a month"),
    ("How often do I water my plants in winter?", "every two weeks"),
    ("when should I fertilise", "March to September"),
    ("which plants are safe for cats?", "spider plant"),
    ("is monstera poisonous", "poisonous"),
    ("what helps against fungus gnats", "yellow boards"),
    ("What are your opening hours?", "10 a.m."),
    ("are you open on Saturdays?", "Tuesday to Saturday"),
    ("where is your shop", "Lindenstraße 12"),
    ("can I bring my dog to the shop?", "Dogs are welcome"),
    ("is there parking?", "four parking spaces"),
    ("how long do you keep an order for collection", "5 days"),
    ("how much is the repotting workshop", "35 €"),
    ("How do I unsubscribe from the newsletter?", "link at its end"),
    ("what is your phone number?", "0341 555 0199"),
    ("is your packaging plastic free", "no plastic"),
    ("how mcuh is shiping to austria", "9.90 €"),
)

UNANSWERABLE: tuple[str, ...] = (
    "do you sell bananas",
    "who won the world cup",
    "can I pay with bitcoin",
    "can I pay in instalments?",
    "Do you ship to Japan?",
    "what is the capital of France",
    "is there a student discount",
    "how do I fix my washing machine",
    "what's the weather tomorrow",
    "do you have a shop in Munich?",
    "can you recommend a good pizza place",
    "do you offer jobs",
    "is the roof of your greenhouse made of glass?",
    "tell me a joke",
    "how tall is the Eiffel tower",
    "do you water lawns for companies",
    "can I rent plants for a wedding?",
    "how do I prune roses",
    "what is your tax number",
    "asdf qwer zxcv",
    "whihc",
    "?",
)

# The question before, the follow-up, and what its answer must contain.
FOLLOW_UPS: tuple[tuple[str, str, str | None], ...] = (
    ("How much is shipping?", "and to Austria?", "9.90 €"),
    ("How long can I return a pot?", "and living plants?", "14 days"),
    ("How often do I water my plants in winter?", "what about cacti?", "once a month"),
    ("Which plants are safe for cats?", "and lilies?", "poisonous"),
    ("How much is shipping?", "and do you sell bananas?", None),
    ("How long can I return a pot?", "what about bicycles?", None),
)
