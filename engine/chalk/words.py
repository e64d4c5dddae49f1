"""The words of the lessons: phrasings by thing and language, "{}" where a colour or a clause goes.

Decides the words alone. Does not decide how they are joined to a caption: `captions` does.
"""

from __future__ import annotations

Phrases = dict[str, tuple[str, ...]]  # language to phrasings

LIGHT: dict[str, Phrases] = {
    "shining": {
        "en": ("the sun shines", "a bright sun shines", "the sun is shining", "a warm yellow sun in the sky"),
        "hi": ("सूरज चमकता है", "तेज सूरज चमक रहा है"),
        "ta": ("சூரியன் பிரகாசிக்கிறது", "சூரியன் ஒளிர்கிறது"),
    },
    "rising": {
        "en": ("the sun rises", "the morning sun rises", "sunrise", "the sun is rising"),
        "hi": ("सूरज उगता है", "सुबह का सूरज उग रहा है"),
        "ta": ("சூரியன் உதிக்கிறது", "காலையில் சூரியன் எழுகிறது"),
    },
    "setting": {
        "en": ("the sun sets", "the evening sun goes down", "sunset", "the sun is setting"),
        "hi": ("सूरज डूबता है", "शाम का सूरज डूब रहा है"),
        "ta": ("சூரியன் மறைகிறது", "மாலையில் சூரியன் அஸ்தமிக்கிறது"),
    },
    "moon": {
        "en": ("the moon and stars shine at night", "a night sky with moon and stars", "a moon at night"),
        "hi": ("रात में चाँद और तारे चमकते हैं", "रात का आकाश"),
        "ta": ("இரவில் நிலவும் நட்சத்திரங்களும் ஒளிர்கின்றன", "இரவு வானம்"),
    },
}
CLOUD_COLOUR: dict[str, Phrases] = {
    "white": {"en": ("white", "fluffy white", "light"), "hi": ("सफेद",), "ta": ("வெள்ளை",)},
    "grey": {"en": ("grey", "dark grey", "gray", "dark"), "hi": ("काले",), "ta": ("கரு",)},
}
CLOUD: dict[str, Phrases] = {
    "left": {
        "en": ("{} clouds drift left", "{} clouds move to the left", "{} clouds float left"),
        "hi": ("{} बादल बाईं ओर चलते हैं",),
        "ta": ("{} மேகங்கள் இடப்புறம் நகர்கின்றன",),
    },
    "right": {
        "en": ("{} clouds drift right", "{} clouds move to the right", "{} clouds float right"),
        "hi": ("{} बादल दाईं ओर चलते हैं",),
        "ta": ("{} மேகங்கள் வலப்புறம் நகர்கின்றன",),
    },
    "appear": {
        "en": (
            "{} clouds form",
            "{} clouds appear",
            "{} clouds gather",
            "water vapour condenses into {} clouds",
        ),
        "hi": ("{} बादल बनते हैं",),
        "ta": ("{} மேகங்கள் உருவாகின்றன",),
    },
    "still": {
        "en": ("{} clouds in the sky", "{} clouds hang in the sky"),
        "hi": ("आकाश में {} बादल हैं",),
        "ta": ("வானில் {} மேகங்கள் உள்ளன",),
    },
}
RAIN: dict[str, Phrases] = {
    "left": {
        "en": ("rain falls from {} clouds drifting left",),
        "hi": ("बाईं ओर चलते {} बादलों से बारिश होती है",),
        "ta": ("இடப்புறம் நகரும் {} மேகங்களிலிருந்து மழை பெய்கிறது",),
    },
    "right": {
        "en": ("rain falls from {} clouds drifting right",),
        "hi": ("दाईं ओर चलते {} बादलों से बारिश होती है",),
        "ta": ("வலப்புறம் நகரும் {} மேகங்களிலிருந்து மழை பெய்கிறது",),
    },
    "still": {
        "en": (
            "rain falls from {} clouds",
            "rain falls from a {} cloud",
            "rain falls",
            "it rains",
            "raindrops fall",
        ),
        "hi": ("{} बादलों से बारिश होती है", "बारिश हो रही है"),
        "ta": ("{} மேகங்களிலிருந்து மழை பெய்கிறது", "மழை பெய்கிறது"),
    },
}
VAPOUR: dict[str, Phrases] = {
    "sea": {
        "en": (
            "water vapour rises from the sea",
            "vapor rises from the ocean",
            "water evaporates from the sea",
            "warm vapour rises from the waves",
            "steam rises from the sea",
        ),
        "hi": ("समुद्र से भाप उठती है", "समुद्र का पानी भाप बनता है"),
        "ta": ("கடலிலிருந்து நீராவி எழுகிறது",),
    },
    "river": {
        "en": (
            "water vapour rises from the river",
            "vapor rises from the river",
            "water evaporates from the river",
        ),
        "hi": ("नदी से भाप उठती है",),
        "ta": ("ஆற்றிலிருந்து நீராவி எழுகிறது",),
    },
}
OVER: dict[str, Phrases] = {
    "sea": {
        "en": ("over the blue sea", "over the sea", "above the ocean", "over blue waves", "over the waves"),
        "hi": ("नीले समुद्र के ऊपर",),
        "ta": ("நீலக் கடலின் மேல்",),
    },
    "hills": {
        "en": ("over green hills", "above the hills", "over the green fields"),
        "hi": ("हरी पहाड़ियों के ऊपर",),
        "ta": ("பச்சைக் குன்றுகளின் மேல்",),
    },
    "mountains": {
        "en": (
            "over snowy mountains",
            "over the mountains",
            "above mountains with snow",
            "over high mountain peaks",
        ),
        "hi": ("बर्फीले पहाड़ों के ऊपर",),
        "ta": ("பனி மலைகளின் மேல்",),
    },
    "river": {
        "en": ("over a river", "above a flowing river", "over the river in the green valley"),
        "hi": ("बहती नदी के ऊपर",),
        "ta": ("ஓடும் ஆற்றின் மேல்",),
    },
}
LAND: dict[str, Phrases] = {
    "sea": {
        "en": ("waves roll on the blue sea", "the blue sea", "the ocean with gentle waves"),
        "hi": ("नीले समुद्र में लहरें उठती हैं",),
        "ta": ("நீலக் கடலில் அலைகள்",),
    },
    "hills": {
        "en": ("green hills", "green hills under the sky"),
        "hi": ("हरी पहाड़ियाँ",),
        "ta": ("பச்சைக் குன்றுகள்",),
    },
    "mountains": {
        "en": ("snowy mountains", "mountains with snow", "high mountain peaks with snow"),
        "hi": ("बर्फीले पहाड़",),
        "ta": ("பனி மலைகள்",),
    },
    "river": {
        "en": (
            "a river flows through green hills",
            "a river flows through the valley to the sea",
            "water flows down the river",
        ),
        "hi": ("हरी पहाड़ियों के बीच नदी बहती है",),
        "ta": ("பச்சைக் குன்றுகளுக்கு இடையே ஆறு ஓடுகிறது",),
    },
}
AND: Phrases = {"en": (" and ", " while ", " as ", ", "), "hi": (" और ", ", "), "ta": (" மற்றும் ", ", ")}
CAMERA: dict[str, Phrases] = {
    "left": {
        "en": ("the camera pans left", "camera pan to the left"),
        "hi": ("कैमरा बाईं ओर घूमता है",),
        "ta": ("கேமரா இடப்புறம் திரும்புகிறது",),
    },
    "right": {
        "en": ("the camera pans right", "camera pan to the right"),
        "hi": ("कैमरा दाईं ओर घूमता है",),
        "ta": ("கேமரா வலப்புறம் திரும்புகிறது",),
    },
    "in": {
        "en": ("the camera zooms in", "a slow zoom in"),
        "hi": ("कैमरा पास जाता है",),
        "ta": ("கேமரா நெருங்குகிறது",),
    },
    "out": {
        "en": ("the camera zooms out", "a slow zoom out"),
        "hi": ("कैमरा दूर जाता है",),
        "ta": ("கேமரா விலகுகிறது",),
    },
}
# a colour before a masculine noun, a feminine one, and a plural or oblique one
COLOUR: dict[str, dict[str, tuple[str, str, str]]] = {
    "red": {"en": ("red",) * 3, "hi": ("लाल",) * 3, "ta": ("சிவப்பு",) * 3},
    "orange": {"en": ("orange",) * 3, "hi": ("नारंगी",) * 3, "ta": ("ஆரஞ்சு",) * 3},
    "yellow": {"en": ("yellow",) * 3, "hi": ("पीला", "पीली", "पीले"), "ta": ("மஞ்சள்",) * 3},
    "green": {"en": ("green",) * 3, "hi": ("हरा", "हरी", "हरे"), "ta": ("பச்சை",) * 3},
    "blue": {"en": ("blue",) * 3, "hi": ("नीला", "नीली", "नीले"), "ta": ("நீல",) * 3},
    "purple": {"en": ("purple",) * 3, "hi": ("बैंगनी",) * 3, "ta": ("ஊதா",) * 3},
}
MASCULINE, FEMININE, PLURAL = range(3)
GENDER = {"ball": FEMININE, "gears": PLURAL, "plant": PLURAL}  # the others are masculine
FORM: dict[str, dict[str, str]] = {
    "circle": {"en": "circle", "hi": "गोला", "ta": "வட்டம்"},
    "square": {"en": "square", "hi": "वर्ग", "ta": "சதுரம்"},
    "triangle": {"en": "triangle", "hi": "त्रिभुज", "ta": "முக்கோணம்"},
}
FORM_MOTION: dict[str, Phrases] = {
    "left": {
        "en": ("a {} moves left", "a {} moves to the left", "a {} drifts left"),
        "hi": ("{} बाईं ओर चलता है", "{} बाईं ओर जाता है"),
        "ta": ("{} இடப்புறம் நகர்கிறது", "{} இடப்புறம் செல்கிறது"),
    },
    "right": {
        "en": ("a {} moves right", "a {} moves to the right", "a {} drifts right"),
        "hi": ("{} दाईं ओर चलता है", "{} दाईं ओर जाता है"),
        "ta": ("{} வலப்புறம் நகர்கிறது", "{} வலப்புறம் செல்கிறது"),
    },
    "up": {
        "en": ("a {} moves up", "a {} rises"),
        "hi": ("{} ऊपर जाता है", "{} ऊपर उठता है"),
        "ta": ("{} மேலே செல்கிறது", "{} மேலே நகர்கிறது"),
    },
    "down": {
        "en": ("a {} moves down", "a {} falls"),
        "hi": ("{} नीचे जाता है", "{} नीचे गिरता है"),
        "ta": ("{} கீழே செல்கிறது", "{} கீழே நகர்கிறது"),
    },
    "grow": {
        "en": ("a {} grows", "a growing {}", "a {} gets bigger"),
        "hi": ("{} बढ़ता है", "{} बड़ा होता है"),
        "ta": ("{} வளர்கிறது", "{} பெரிதாகிறது"),
    },
    "shrink": {
        "en": ("a {} shrinks", "a shrinking {}", "a {} gets smaller"),
        "hi": ("{} सिकुड़ता है", "{} छोटा होता है"),
        "ta": ("{} சுருங்குகிறது", "{} சிறிதாகிறது"),
    },
    "appear": {
        "en": ("a {} appears", "a {} slowly appears"),
        "hi": ("{} प्रकट होता है", "{} दिखने लगता है"),
        "ta": ("{} தோன்றுகிறது",),
    },
    "fade": {
        "en": ("a {} fades", "a {} fades away", "a {} disappears"),
        "hi": ("{} गायब होता है", "{} मिट जाता है"),
        "ta": ("{} மறைகிறது", "{} மங்கி மறைகிறது"),
    },
}
FIGURE: dict[str, Phrases] = {
    "ball": {
        "en": ("a {} ball bounces", "a bouncing {} ball", "a {} ball bounces on the floor"),
        "hi": ("{} गेंद उछलती है", "{} गेंद फर्श पर उछलती है"),
        "ta": ("{} பந்து துள்ளுகிறது", "{} பந்து குதிக்கிறது"),
    },
    "pendulum": {
        "en": ("a {} pendulum swings", "a swinging {} pendulum", "a pendulum with a {} bob swings"),
        "hi": ("{} लोलक झूलता है", "{} लोलक डोलता है"),
        "ta": ("{} ஊசல் ஆடுகிறது", "{} ஊசல் அசைகிறது"),
    },
    "gears": {
        "en": ("{} gears turn", "two {} gears turn", "{} gears rotate"),
        "hi": ("{} गियर घूमते हैं", "दो {} गियर घूमते हैं"),
        "ta": ("{} பற்சக்கரங்கள் சுழல்கின்றன", "இரண்டு {} பற்சக்கரங்கள் சுழல்கின்றன"),
    },
    "heart": {
        "en": ("a {} heart beats", "a beating {} heart", "a {} heart pumps"),
        "hi": ("{} दिल धड़कता है", "{} हृदय धड़कता है"),
        "ta": ("{} இதயம் துடிக்கிறது",),
    },
    "planet": {
        "en": ("a {} planet orbits the sun", "a {} planet moves around the sun", "a {} planet in orbit"),
        "hi": ("{} ग्रह सूरज की परिक्रमा करता है", "{} ग्रह सूरज के चारों ओर घूमता है"),
        "ta": ("{} கோள் சூரியனைச் சுற்றுகிறது", "{} கோள் சூரியனைச் சுற்றி வருகிறது"),
    },
    "plant": {
        "en": ("a plant with a {} flower grows", "a {} flower grows", "a seedling grows into a {} flower"),
        "hi": ("{} फूल का पौधा बढ़ता है", "{} फूल वाला पौधा बढ़ता है"),
        "ta": ("{} பூச்செடி வளர்கிறது", "{} பூவுடன் செடி வளர்கிறது"),
    },
}
MOON: dict[str, Phrases] = {
    "wax": {
        "en": (
            "the moon waxes",
            "a waxing moon",
            "the moon grows from new to full",
            "the phases of a waxing moon",
        ),
        "hi": ("चाँद बढ़ता है", "बढ़ता हुआ चाँद"),
        "ta": ("நிலா வளர்கிறது", "வளர்பிறை நிலா"),
    },
    "wane": {
        "en": (
            "the moon wanes",
            "a waning moon",
            "the moon shrinks from full to new",
            "the phases of a waning moon",
        ),
        "hi": ("चाँद घटता है", "घटता हुआ चाँद"),
        "ta": ("நிலா தேய்கிறது", "தேய்பிறை நிலா"),
    },
}
ANY_PLANT: Phrases = {  # a flower of any colour
    "en": (
        "a plant grows",
        "a plant grows from the soil",
        "a seedling grows into a flower",
        "a flower grows",
    ),
    "hi": ("मिट्टी में पौधा बढ़ता है", "फूल का पौधा बढ़ता है"),
    "ta": ("மண்ணில் செடி வளர்கிறது", "பூச்செடி வளர்கிறது"),
}
NIGHT: Phrases = {
    "en": ("{} at night", "{} in the night", "{} under the stars"),
    "hi": ("रात में {}",),
    "ta": ("இரவில் {}",),
}
DAY: Phrases = {"en": ("{} by day", "{} in daylight"), "hi": ("दिन में {}",), "ta": ("பகலில் {}",)}
FILLERS = ("a lesson about the water cycle", "an animated picture of", "in soft colours", "a calm wide view")
