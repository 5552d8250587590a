//! What a directory's page says, in each language. The only place with words for browsers.

use std::fmt::Write;

use super::headers::Language;

/// The words of one language.
#[derive(Debug)]
pub struct Words {
    /// As HTML names the language.
    pub language: &'static str,
    /// Before the name of the directory.
    pub contents_of: &'static str,
    /// What the way from the root is.
    pub path: &'static str,
    /// The root.
    pub home: &'static str,
    /// Head of a column.
    pub name: &'static str,
    /// Head of a column.
    pub kind: &'static str,
    /// Head of a column.
    pub size: &'static str,
    /// Head of a column.
    pub changed: &'static str,
    /// A kind.
    pub directory: &'static str,
    /// A kind.
    pub file: &'static str,
    /// Nothing is there.
    pub empty: &'static str,
    /// Too much is there to be sorted.
    pub unsorted: &'static str,
    /// The way to the past.
    pub earlier: &'static str,
    /// What is shown is of the past.
    pub past: &'static str,
    months: [&'static str; 12],
    before_time: &'static str,
    byte: &'static str,
    bytes: &'static str,
    units: [&'static str; 6],
    decimal: char,
    thousands: char,
}

const ENGLISH: Words = Words {
    language: "en",
    contents_of: "Contents of",
    path: "Path",
    home: "Home",
    name: "Name",
    kind: "Type",
    size: "Size",
    changed: "Last changed",
    directory: "Directory",
    file: "File",
    empty: "This directory is empty.",
    unsorted: "This directory has so many entries that they are shown in no order. All of them are here.",
    earlier: "Earlier states",
    past: "This is as it was. Nothing here can be changed.",
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    before_time: ", ",
    byte: "byte",
    bytes: "bytes",
    units: ["kB", "MB", "GB", "TB", "PB", "EB"],
    decimal: '.',
    thousands: ',',
};

const FRENCH: Words = Words {
    language: "fr",
    contents_of: "Contenu de",
    path: "Chemin",
    home: "Accueil",
    name: "Nom",
    kind: "Type",
    size: "Taille",
    changed: "Dernière modification",
    directory: "Dossier",
    file: "Fichier",
    empty: "Ce dossier est vide.",
    unsorted: "Ce dossier a tant d’éléments qu’ils ne sont pas triés. Ils sont tous affichés.",
    earlier: "États antérieurs",
    past: "Ceci est un état antérieur. Rien ici ne peut être modifié.",
    months: [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    before_time: " à ",
    byte: "octet",
    bytes: "octets",
    units: ["ko", "Mo", "Go", "To", "Po", "Eo"],
    decimal: ',',
    thousands: '\u{202f}',
};

impl Words {
    /// Those of a language.
    pub fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &ENGLISH,
            Language::French => &FRENCH,
        }
    }

    /// Appends a size as people say it: three digits and a unit of a thousand.
    pub fn push_size(&self, out: &mut String, bytes: u64) {
        if bytes < 1000 {
            return self.push_bytes(out, bytes);
        }
        // In tenths of the unit, rounded down: what is shown is there.
        let (mut tenths, mut unit) = (bytes / 100, 0);
        while tenths >= 10_000 && unit + 1 < self.units.len() {
            (tenths, unit) = (tenths / 1000, unit + 1);
        }
        let _written = match tenths {
            1000.. => write!(out, "{}", tenths / 10),
            _ => write!(out, "{}{}{}", tenths / 10, self.decimal, tenths % 10),
        };
        out.push('\u{a0}');
        out.push_str(self.units.get(unit).copied().unwrap_or_default());
    }

    /// Appends a size to the byte.
    pub fn push_bytes(&self, out: &mut String, bytes: u64) {
        let digits = bytes.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                out.push(self.thousands);
            }
            out.push(digit);
        }
        out.push('\u{a0}');
        out.push_str(if bytes == 1 { self.byte } else { self.bytes });
    }

    /// Appends a moment, to the minute.
    pub fn push_time(&self, out: &mut String, secs: i64) {
        let Ok(time) = jiff::Timestamp::from_second(secs) else { return };
        let civil = jiff::tz::Offset::UTC.to_datetime(time);
        let month = usize::try_from(civil.month()).unwrap_or_default().checked_sub(1);
        let month = month.and_then(|month| self.months.get(month)).copied().unwrap_or_default();
        let (day, year, between) = (civil.day(), civil.year(), self.before_time);
        let _written =
            write!(out, "{day} {month} {year}{between}{:02}:{:02} UTC", civil.hour(), civil.minute());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_said_as_each_language_says_them() {
        let of = |words: &Words, say: &dyn Fn(&Words, &mut String)| {
            let mut out = String::new();
            say(words, &mut out);
            out
        };
        let (english, french) = (Words::of(Language::English), Words::of(Language::French));
        for (bytes, in_english, in_french) in [
            (0, "0\u{a0}bytes", "0\u{a0}octets"),
            (1, "1\u{a0}byte", "1\u{a0}octet"),
            (999, "999\u{a0}bytes", "999\u{a0}octets"),
            (1000, "1.0\u{a0}kB", "1,0\u{a0}ko"),
            (123_456, "123\u{a0}kB", "123\u{a0}ko"),
            (999_999, "999\u{a0}kB", "999\u{a0}ko"),
            (1_500_000_000, "1.5\u{a0}GB", "1,5\u{a0}Go"),
            (u64::MAX, "18.4\u{a0}EB", "18,4\u{a0}Eo"),
        ] {
            assert_eq!(of(english, &|words, out| words.push_size(out, bytes)), in_english);
            assert_eq!(of(french, &|words, out| words.push_size(out, bytes)), in_french);
        }
        assert_eq!(of(english, &|words, out| words.push_bytes(out, 1_234_567)), "1,234,567\u{a0}bytes");
        assert_eq!(
            of(english, &|words, out| words.push_time(out, 784_111_777)),
            "6 November 1994, 08:49 UTC"
        );
        assert_eq!(of(french, &|words, out| words.push_time(out, 0)), "1 janvier 1970 à 00:00 UTC");
    }
}
