"""The languages of India that films are made in, by the name that each has for itself."""

# Players and the report list languages by these names, so they are the ones that viewers read.
NATIVE_NAMES = {
    "as": "অসমীয়া",
    "bn": "বাংলা",
    "en": "English",
    "gu": "ગુજરાતી",
    "hi": "हिन्दी",
    "kn": "ಕನ್ನಡ",
    "ml": "മലയാളം",
    "mr": "मराठी",
    "or": "ଓଡ଼ିଆ",
    "pa": "ਪੰਜਾਬੀ",
    "ta": "தமிழ்",
    "te": "తెలుగు",
    "ur": "اردو",
}
