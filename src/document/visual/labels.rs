//! The captions that documents print beside their fields, in many languages, and how they are found in lines of text.
//!
//! Called by `visual`. Text recognisers lose accents and misread the small print of captions, so they are compared without accents and with
//! a tolerance that grows with their length. Sources: ICAO Doc 9303 part 3 section 3 (captions of the visual zone), Council Regulations
//! (EC) 1030/2002 and (EU) 2019/1157 (cards), Directive 2006/126/EC annex I (the numbers of driving licences); the words themselves are
//! those that the States print. Left out: captions in scripts that are not transliterated, such as Arabic, Thai or Chinese.

use std::sync::LazyLock;

use super::super::agreement::{edit_distance_of, fold};

/// What a caption announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Label {
    FamilyName,
    GivenNames,
    FullName,
    /// `Name` is the family name in German and the whole name in English, `Nom` likewise in French; the rest of the page decides.
    FamilyOrFull,
    /// `Nome`, `Nombre`: the given names beside a caption for the family name, the whole name otherwise.
    GivenOrFull,
    BirthDate,
    BirthPlace,
    Sex,
    Nationality,
    DocumentNumber,
    /// The number of the passport, which need not be this document.
    PassportNumber,
    PersonalNumber,
    IssueDate,
    ExpiryDate,
    Authority,
    Address,
    Height,
    IssuingState,
    /// A caption of something else: known, so that it is taken for no value.
    Other,
}

/// A caption in a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub label: Label,
    /// In characters of the line; translations after a slash belong to it.
    pub start: usize,
    pub end: usize,
    /// True if it is an `O`-only caption of Spanish, where M may stand for a woman.
    pub is_sexo_alone: bool,
}

/// At most so many words are taken for the beginning of a caption in one page, so that a page of single letters costs no more than
/// one full of text.
pub(super) const MAX_STARTS: usize = 6000;

/// The longest caption has fewer words and letters.
const MAX_WORDS: usize = 8;
const MAX_LETTERS: usize = 44;

/// Titles of documents that are no captions, though captions differ from them by the letters of "No." alone.
const TITLES: [&str; 8] =
    ["PASSPORT", "PASSEPORT", "PASAPORTE", "PASSAPORTO", "PASSAPORTE", "REISEPASS", "DOCUMENT", "PASPOORT"];

/// A word of a line.
struct Word {
    folded: Vec<char>,
    start: usize,
    end: usize,
    before: Gap,
}

/// What stands before a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Nothing: the beginning of the line.
    Start,
    /// A slash or the like, between languages.
    Slash,
    /// A colon, bracket or bullet.
    Mark,
    Space,
}

struct Caption {
    label: Label,
    letters: Vec<char>,
    mask: u32,
    tolerance: usize,
}

static CAPTIONS: LazyLock<Vec<Caption>> = LazyLock::new(|| {
    let one = |label: Label, text: &str| {
        let letters: Vec<char> = normal(&fold(text)).chars().collect();
        // Short captions are words of other languages when one letter changes.
        let tolerance = match letters.len() {
            0..=4 => 0,
            5..=7 => 1,
            8..=12 => 2,
            13..=17 => 3,
            _ => 4,
        };
        Caption { label, mask: mask(&letters), letters, tolerance }
    };
    TABLE.iter().flat_map(|(label, texts)| texts.split('|').map(move |text| one(*label, text.trim()))).collect()
});

/// What recognisers confuse in small print, made equal.
fn normal(folded: &str) -> String {
    folded.replace("RN", "M").replace('0', "O").replace('1', "I").replace('5', "S").replace('8', "B")
}

fn mask(letters: &[char]) -> u32 {
    letters
        .iter()
        .filter(|letter| letter.is_ascii_uppercase())
        .fold(0, |mask, letter| mask | 1 << (*letter as u32 - 'A' as u32))
}

/// The captions of a line, from left to right. `starts` is what is left of [`MAX_STARTS`].
pub(super) fn find(characters: &[char], starts: &mut usize) -> Vec<Found> {
    let words = split(characters);
    let mut matches: Vec<(Label, usize, usize)> = Vec::new();
    let mut at = 0;
    let mut is_eligible = false;
    while let Some(word) = words.get(at) {
        is_eligible |= word.before != Gap::Space;
        let found = if is_eligible && *starts > 0 {
            *starts -= 1;
            best(&words, at)
        } else {
            None
        };
        if let Some((label, count)) = found {
            matches.push((label, at, at + count));
            at += count;
            is_eligible = true;
        } else {
            // Numbers before a caption (`4.`, `(3)`, `4a`) leave the next word eligible.
            let is_numbering = word.folded.len() <= 2
                && word.end - word.start <= 2
                && characters.get(word.start).is_some_and(char::is_ascii_digit);
            is_eligible &= is_numbering;
            at += 1;
        }
    }
    join(&words, &matches, characters)
}

fn split(characters: &[char]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut gap = Gap::Start;
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        // Apostrophes and full stops inside belong to the word: "d'expiration", "No.".
        let belongs =
            |c: &char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '`' | '°' | 'º' | '\u{300}'..='\u{36f}');
        if character.is_alphanumeric() {
            let length = characters.get(at..).unwrap_or_default().iter().take_while(|c| belongs(c)).count();
            let text: String = characters.get(at..at + length).unwrap_or_default().iter().collect();
            let folded: Vec<char> = normal(&fold(&text)).chars().collect();
            words.push(Word { folded, start: at, end: at + length, before: gap });
            gap = Gap::Space;
            at += length;
        } else {
            gap = match (character, gap) {
                ('/' | '|' | '\\' | '•' | '·' | '∙' | '／', _) => Gap::Slash,
                (_, Gap::Slash | Gap::Start) => gap,
                (':' | ';' | '(' | '[' | '*', _) => Gap::Mark,
                _ => gap,
            };
            at += 1;
        }
    }
    words
}

/// The caption that the words from `at` on are, and how many words it has. `None` if there is none, or if two are as near.
fn best(words: &[Word], at: usize) -> Option<(Label, usize)> {
    let first_gap = words.get(at)?.before;
    let mut joined: Vec<char> = Vec::new();
    let mut best: Option<(usize, Label, usize)> = None;
    let mut is_tied = false;
    for (count, word) in words.iter().skip(at).take(MAX_WORDS).enumerate() {
        if count > 0 && word.before == Gap::Slash {
            break;
        }
        joined.extend(&word.folded);
        if joined.len() > MAX_LETTERS {
            break;
        }
        if TITLES.iter().any(|title| title.chars().eq(joined.iter().copied())) {
            continue;
        }
        let text_mask = mask(&joined);
        let next = words.get(at + count + 1).map(|next| next.before);
        for caption in CAPTIONS.iter() {
            let tolerance = caption.tolerance;
            if caption.letters.len().abs_diff(joined.len()) > tolerance
                || (caption.mask ^ text_mask).count_ones() as usize > 2 * tolerance
            {
                continue;
            }
            // A short caption stands alone, or begins the line.
            if caption.letters.len() <= 4 && first_gap != Gap::Start && next == Some(Gap::Space) {
                continue;
            }
            let Some(distance) = edit_distance_of(&caption.letters, &joined, tolerance) else { continue };
            let score = (caption.letters.len() + 1).saturating_sub(3 * distance);
            match best {
                Some((known, label, _)) if known > score || (known == score && label == caption.label) => {}
                Some((known, _, _)) if known == score => is_tied = true,
                _ => (best, is_tied) = (Some((score, caption.label, count + 1)), false),
            }
        }
    }
    best.filter(|(score, _, _)| *score > 0 && !is_tied).map(|(_, label, count)| (label, count))
}

/// Joins translations of one caption, and takes what stands between slashes beside a known caption for a translation that was not read.
fn join(words: &[Word], matches: &[(Label, usize, usize)], characters: &[char]) -> Vec<Found> {
    let mut found: Vec<(Found, usize)> = Vec::new();
    for (index, (label, first, after)) in matches.iter().copied().enumerate() {
        let floor = found.last().map_or(0, |(_, after)| *after);
        let mut from = first;
        // Back over unread translations: "Kenninafn/surname" with only the second known.
        if words.get(from).is_some_and(|word| word.before == Gap::Slash) {
            let earlier = words.get(floor..from).unwrap_or_default();
            let has_date = earlier
                .iter()
                .filter(|word| word.folded.len() > 3 && characters.get(word.start).is_some_and(char::is_ascii_digit))
                .count()
                > 0;
            if !has_date {
                from = floor;
            }
        }
        // Forward to the next match, or over a translation after a slash.
        let limit = matches.get(index + 1).map_or(words.len(), |next| next.1);
        let mut to = after;
        if words.get(to).is_some_and(|word| word.before == Gap::Slash) {
            while to < limit
                && words.get(to).is_some_and(|word| !characters.get(word.start).is_some_and(char::is_ascii_digit))
            {
                to += 1;
            }
        }
        let start = words.get(from).map_or(0, |word| word.start);
        let end = to.checked_sub(1).and_then(|last| words.get(last)).map_or(start, |word| word.end);
        let text: String = words.get(first..after).unwrap_or_default().iter().flat_map(|word| &word.folded).collect();
        let is_sexo_alone = text == "SEXO";
        let is_next_language =
            |earlier: &Found| words.get(first).is_some_and(|word| word.before == Gap::Slash) || earlier.label == label;
        match found.last_mut() {
            Some((earlier, known_after)) if is_next_language(earlier) && same(earlier.label, label).is_some() => {
                earlier.label = same(earlier.label, label).unwrap_or(label);
                earlier.end = end;
                earlier.is_sexo_alone &= is_sexo_alone;
                *known_after = to;
            }
            _ => found.push((Found { label, start, end, is_sexo_alone }, to)),
        }
    }
    found.into_iter().map(|(found, _)| found).collect()
}

/// The caption that two translations make, if they can mean the same.
pub(super) fn same(a: Label, b: Label) -> Option<Label> {
    use Label::{DocumentNumber, FamilyName, FamilyOrFull, FullName, GivenNames, GivenOrFull, Other, PassportNumber};
    match (a, b) {
        (a, b) if a == b => Some(a),
        (FamilyOrFull, other @ (FamilyName | FullName)) | (other @ (FamilyName | FullName), FamilyOrFull) => {
            Some(other)
        }
        (GivenOrFull, other @ (GivenNames | FullName)) | (other @ (GivenNames | FullName), GivenOrFull) => Some(other),
        (FamilyOrFull, GivenOrFull) | (GivenOrFull, FamilyOrFull) => Some(FullName),
        // "Nazwisko rodowe / Family name" is the name at birth: the narrower translation decides.
        (Other, FamilyName | GivenNames | FamilyOrFull | GivenOrFull)
        | (FamilyName | GivenNames | FamilyOrFull | GivenOrFull, Other) => Some(Other),
        (DocumentNumber, PassportNumber) | (PassportNumber, DocumentNumber) => Some(DocumentNumber),
        _ => None,
    }
}

#[rustfmt::skip]
const TABLE: &[(Label, &str)] = &[
    (Label::FamilyName, "Surname|Surnames|Family name|Last name|Nom de famille|Familienname|Nachname|Apellido|Apellidos|Primer apellido|Cognome|Apelido|Apelidos|Sobrenome|Achternaam|Familienaam|Nazwisko|Příjmení|Priezvisko|Priimek|Prezime|Családi név|Családi és utónév|Nume|Numele|Nume de familie|Efternamn|Efternavn|Etternavn|Sukunimi|Perekonnanimi|Perenimi|Uzvārds|Pavardė|Soyadı|Kenninafn|Mbiemri|Επώνυμο|Eponymo|Прізвище|Фамилия|Фамилно име|Презиме|Kunyomad|Slægtsnavn|Numm|Cognom|Cognoms|Surname Nom|Familien- und Geburtsname|Nom Surname"),
    (Label::GivenNames, "Given name|Given names|Given name(s)|First name|First names|Forename|Forenames|First and middle names|Prénom|Prénoms|Prénom(s)|Vorname|Vornamen|Vorname(n)|Nombres|Nome(s) próprio(s)|Nomes próprios|Voornaam|Voornamen|Imię|Imiona|Imię (imiona)|Jméno|Jména|Jméno (jména)|Meno|Ime|Utónév|Utónevek|Prenume|Prenumele|Förnamn|Fornavn|Fornavne|Etunimet|Etunimi|Eesnimi|Eesnimed|Vārds|Vārdi|Vārds(-i)|Vardas|Vardai|Adı|Eiginnafn|Emri|Όνομα|Onoma|Ім'я|Имя|Име|Virnimm|Name(s) given|Prenoms Given names"),
    (Label::FullName, "Full name|Name and surname|Name (Surname, Given names)|Name (Last, First)|Surname and given names|Surname, given names|Surname, name|Nom et prénoms|Nom, prénom|Name, Vorname|Name, Vornamen|Apellidos y nombres|Nombres y apellidos|Nombre completo|Nombres, apellidos|Apellidos, nombre|Cognome e nome|Nome completo|Nome e cognome|Nazwisko, imię|Imię i nazwisko|Név|Namn|Navn|Naam en voornamen|Name of holder|Holder's name|Nom du titulaire"),
    (Label::FamilyOrFull, "Name|Nom|Naam|Nimi"),
    (Label::GivenOrFull, "Nome|Nombre"),
    (Label::BirthDate, "Date of birth|Birth date|Birthdate|Birthday|DOB|D.O.B.|Born|Born on|Date de naissance|Né le|Née le|Né(e) le|Date et lieu de naissance|Date and place of birth|Geburtsdatum|Geburtstag|Geboren am|Tag der Geburt|Geburtstag und -ort|Fecha de nacimiento|Fecha y lugar de nacimiento|Data di nascita|Luogo e data di nascita|Data e luogo di nascita|Nato il|Data de nascimento|Data de nasc.|Geboortedatum|Geboren op|Data urodzenia|Datum narození|Dátum narodenia|Datum rojstva|Datum rođenja|Születési idő|Születési ideje|Születés dátuma|Data nașterii|Data nasterii|Födelsedatum|Födelsedag|Fødselsdato|Fødselsdag|Syntymäaika|Sünniaeg|Sünnikuupäev|Dzimšanas datums|Gimimo data|Doğum tarihi|Fæðingardagur|Datëlindja|Ημερομηνία γέννησης|Imerominia gennisis|Дата народження|Дата рождения|Дата на раждане|Датум рођења|Gebuer den|Gebuertsdatum|Data da nascita|Data naixement|Date of Birth Date de naissance|Tarikh lahir|Tanggal lahir"),
    (Label::BirthPlace, "Place of birth|Birth place|Birthplace|Country of birth|Place and country of birth|Lieu de naissance|Pays de naissance|Geburtsort|Lugar de nacimiento|Luogo di nascita|Local de nascimento|Naturalidade|Geboorteplaats|Miejsce urodzenia|Místo narození|Miesto narodenia|Kraj rojstva|Mjesto rođenja|Születési hely|Születési helye|Locul nașterii|Loc naștere|Födelseort|Fødested|Syntymäpaikka|Sünnikoht|Dzimšanas vieta|Gimimo vieta|Doğum yeri|Fæðingarstaður|Vendlindja|Τόπος γέννησης|Topos gennisis|Місце народження|Место рождения|Място на раждане|Место рођења|Gebuer zou|Lieu et pays de naissance"),
    (Label::Sex, "Sex|Gender|Sexe|Geschlecht|Sexo|Sesso|Geslacht|Płeć|Pohlaví|Pohlavie|Spol|Nem|Sexul|Kön|Køn|Kjønn|Sukupuoli|Sugu|Dzimums|Lytis|Cinsiyet|Cinsiyeti|Kyn|Gjinia|Φύλο|Fylo|Стать|Пол|Пол/Sex|Geschlecht Sex Sexe"),
    (Label::Nationality, "Nationality|Citizenship|Nationalité|Staatsangehörigkeit|Nationalität|Nacionalidad|Cittadinanza|Nazionalità|Nacionalidade|Nationaliteit|Obywatelstwo|Státní občanství|Státní příslušnost|Štátne občianstvo|Štátna príslušnosť|Državljanstvo|Állampolgárság|Cetățenie|Cetățenia|Naționalitatea|Medborgarskap|Nationalitet|Statsborgerskab|Statsborgerskap|Nasjonalitet|Kansalaisuus|Kodakondsus|Pilsonība|Pilietybė|Uyruğu|Uyruk|Vatandaşlık|Ríkisfang|Þjóðerni|Shtetësia|Υπηκοότητα|Ιθαγένεια|Ypikootita|Громадянство|Гражданство|Држављанство|Nationalitéit"),
    (Label::PassportNumber, "Passport No|Passport No.|Passport number|Passport Nr|Number of passport|Passport N°|No. de passeport|N° de passeport|N° du passeport|Numéro de passeport|Passeport No|Passeport N°|Pass-Nr|Pass-Nr.|Passnummer|Pass Nr|Reisepass-Nr|Pass(-ersatz)-Nr|Núm. de pasaporte|Número de pasaporte|Nº de pasaporte|Pasaporte No|Passaporto n.|Numero di passaporto|Numero del passaporto|N.º do passaporte|Número do passaporte|Nr. paszportu|Numer paszportu|Číslo pasu|Cestovní pas č.|Číslo pasu Passport No|Broj putovnice|Številka potnega lista|Útlevélszám|Nr. pașaport|Passnr|Pasnr|Pass nr|Passin numero|Passin nro|Passi number|Pases Nr|Paso Nr|Paso numeris|Pasaport No|Pass Num|Vegabréf nr|№ паспорта|Номер паспорта|Паспорт №|Αρ. διαβατηρίου|Passport No Passeport No|Paspoortnummer"),
    (Label::DocumentNumber, "Document No|Document No.|Document number|Doc. No|Card No|Card No.|Card number|ID card No|Identity card No|Identity card number|Certificate No|Certificate No.|Certificat No|Licence No|License No|Licence number|License number|DL No|DLN|DL|LIC#|Permit No|Permit number|N° du document|Numéro du document|N° de document|N° de la carte|Carte n°|Carte nationale d'identité n°|N° du titre|Dokumentennummer|Dokument-Nr|Ausweisnummer|Ausweis-Nr|Kartennummer|Kartennr|Führerschein-Nr|Núm. de documento|Número de documento|Nº documento|Núm soport|Num soporte|IDESP|Numero documento|Numero carta|N. documento|N.º do documento|Número do documento|Nº do documento|Documentnummer|Kaartnummer|Kaartnr|Identiteitskaartnummer|Rijbewijsnummer|Numer dowodu|Nr dowodu|Seria i numer|Numer dowodu osobistego|Numer karty|Číslo dokladu|Číslo průkazu|Číslo karty|Číslo OP|Číslo preukazu|Številka osebne izkaznice|Številka dokumenta|Broj osobne iskaznice|Broj dokumenta|Broj lične karte|Okmányazonosító|Okmányszám|Seria și nr|Nr. document|Kortnummer|Kortnr|Dokumentnr|Asiakirjan numero|Kortin numero|Dokumendi number|Dokumenta Nr|Dokumento Nr|Asmens tapatybės kortelės Nr|Seri No|Belge No|Kimlik Seri No|Skírteini nr|Αριθμός δελτίου|Αριθμός ταυτότητας|Документ №|Номер документа|Запис №|Permis n°|N° permis"),
    (Label::PersonalNumber, "Personal No|Personal No.|Personal number|Personal ID No|Personal Id. No.|Personal code|Personal identification number|Identification No|Identification number|Identity number|Identity No|ID No|I.D. No|National ID No|National number|National identification number|Citizen number|N° personnel|Numéro personnel|No personnel|Numéro d'identification|N° d'identification|Code personnel|Personennummer|Núm. personal|Número personal|Número de identificación|Numero personale|Codice fiscale|Número pessoal|N.º de identificação|Persoonsnummer|Burgerservicenummer|BSN|Rijksregisternummer|Nationaal nummer|Identificatienummer van het Rijksregister|PESEL|Numer PESEL|Rodné číslo|Emšo|OIB|Osobni identifikacijski broj|Személyi szám|Személyi azonosító|CNP|Personnummer|Personnr|Henkilötunnus|Isikukood|Personas kods|Asmens kodas|T.C. Kimlik No|TC Kimlik No|Kimlik No|Kennitala|Numri personal|Αριθμός μητρώου|Персональний номер|Личный номер|Ідентифікаційний номер|ЕГН|ЈМБГ|N° registre national|Numéro national|DNI|NIF|RUN|CURP|Num. Id|Personal No Num"),
    (Label::IssueDate, "Date of issue|Issue date|Issued|Issued on|ISS|Date issued|Date and place of issue|Date de délivrance|Délivré le|Délivrée le|Date d'émission|Ausstellungsdatum|Ausgestellt am|Datum der Ausstellung|Fecha de expedición|Fecha de emisión|Data di rilascio|Data di emissione|Rilasciata il|Data de emissão|Data de expedição|Datum van afgifte|Afgiftedatum|Datum van uitgifte|Datum en plaats van afgifte|Data wydania|Datum vydání|Dátum vydania|Datum izdaje|Datum izdavanja|Kiállítás dátuma|Kiállítás kelte|Kiadás dátuma|Data emiterii|Data eliberării|Eliberat la|Utfärdandedatum|Utfärdad den|Utfärdad|Udstedelsesdato|Udstedt den|Utstedelsesdato|Utstedt|Myönnetty|Myöntämispäivä|Väljaandmise kuupäev|Välja antud|Väljastatud|Izdošanas datums|Izsniegšanas datums|Išdavimo data|Düzenleme tarihi|Veriliş tarihi|Verildiği tarih|Útgáfudagur|Data e lëshimit|Ημερομηνία έκδοσης|Imerominia ekdosis|Дата видачі|Дата выдачи|Дата на издаване|Датум издавања|Ausgestallt den|Date of Issue Date de délivrance"),
    (Label::ExpiryDate, "Date of expiry|Expiry date|Expiration date|Expiry|Expires|Expires on|Exp|Date of expiration|Valid until|Valid to|Valid thru|Card expires|Date d'expiration|Expire le|Valable jusqu'au|Date de fin de validité|Date d'échéance|Gültig bis|Gültig bis zum|Ablaufdatum|Datum des Ablaufs|Fecha de caducidad|Fecha de vencimiento|Fecha de expiración|Válido hasta|Válido hasta el|Válida hasta|Data di scadenza|Scadenza|Valida fino al|Data de validade|Válido até|Data de caducidade|Validade|Geldig tot|Geldig tot en met|Vervaldatum|Datum van verstrijken|Data ważności|Ważny do|Termin ważności|Data upływu ważności|Platnost do|Datum platnosti|Platnosť do|Dátum platnosti|Platí do|Datum poteka|Datum poteka veljavnosti|Velja do|Datum isteka|Datum isteka valjanosti|Vrijedi do|Datum isteka važenja|Érvényes|Érvényességi idő|Érvényességi ideje|Lejárat dátuma|Érvényességének vége|Data expirării|Valabil până la|Giltig till|Giltigt till|Giltig t.o.m.|Sista giltighetsdag|Udløbsdato|Gyldig til|Gyldigt til|Utløpsdato|Viimeinen voimassaolopäivä|Voimassa|Kehtiv kuni|Kehtib kuni|Aegub|Derīga līdz|Derīgs līdz|Derīguma termiņš|Galioja iki|Son geçerlilik tarihi|Geçerlilik tarihi|Gildir til|Data e skadimit|Ημερομηνία λήξης|Ισχύει έως|Imerominia lixis|Дійсний до|Дата закінчення строку дії|Дата окончания срока|Срок действия|Действителен до|Валидност|Важи до|Gëlt bis den|Gëlteg bis|Vilided"),
    (Label::Authority, "Authority|Issuing authority|Issued by|Autorité|Autorité de délivrance|Délivré par|Behörde|Ausstellende Behörde|Autoridad|Autoridad expedidora|Autorità|Autoridade|Entidade emissora|Autoriteit|Instantie|Afgegeven door|Organ wydający|Wydany przez|Vydal|Pas vydal|Vydal úřad|Úřad|Vydal orgán|Pristojni organ|Organ|Izdao|Izdala|Kiállító hatóság|Autoritatea|Emisă de|Eliberat de|Myndighet|Myndighed|Utfärdande myndighet|Viranomainen|Väljaandja|Väljaandev asutus|Izdevējiestāde|Izdevējiestāde|Įstaiga|Pasą išdavė|Įsdavė|Veren makam|Yetkili makam|Autoriteti|Stjórnvald|Αρχή|Εκδούσα αρχή|Орган|Орган, що видав|Кем выдан|Издаден от|Autoritéit|Instantie Authority"),
    (Label::Address, "Address|Home address|Residence|Permanent address|Place of residence|Adresse|Adresse du titulaire|Domicile|Anschrift|Wohnort|Wohnsitz|Domicilio|Dirección|Indirizzo|Residenza|Comune di residenza|Indirizzo di residenza|Morada|Residência|Endereço|Adres|Woonplaats|Adres zameldowania|Adres zamieszkania|Trvalý pobyt|Adresa|Adresa trvalého pobytu|Stalno prebivališče|Prebivalište|Prebivališče|Lakcím|Lakóhely|Domiciliu|Domiciliul|Bostadsadress|Bopæl|Bosted|Osoite|Elukoht|Dzīvesvieta|Gyvenamoji vieta|Adresi|Διεύθυνση|Адреса|Адрес|Місце проживання|Место жительства"),
    (Label::Height, "Height|Taille|Größe|Körpergröße|Estatura|Talla|Statura|Altura|Lengte|Wzrost|Výška|Višina|Visina|Magasság|Înălțime|Längd|Højde|Høyde|Pituus|Pikkus|Augums|Ūgis|Boy|Hæð|Ύψος|Зріст|Рост|Gréisst|HGT|Height Taille"),
    (Label::IssuingState, "Country code|Code|Code of state|Issuing state|Code of issuing State|State code|Issuing country|Code du pays|Code pays|Code de l'Etat émetteur|Code de l'État|Ländercode|Lännercode|Staatscode|Código del país|Codice paese|Código do país|Landcode|Kod państwa|Kód státu|Kód štátu|Kód|Oznaka države|Šifra države|Országkód|Codul țării|Landskod|Landekode|Landkode|Maakoodi|Riigi kood|Valsts kods|Valstybės kodas|Ülke kodu|Κωδικός χώρας|Код держави|Код государства|Country code Pays"),
    (Label::Other, "Type|Typ|Tipo|Type/Type|Tip|Tyyppi|Tüüp|Tips|Rūšis|Vrsta|Typus|Signature|Signature of bearer|Signature of holder|Holder's signature|Signature du titulaire|Unterschrift|Unterschrift des Inhabers|Unterschrift der Inhaberin/des Inhabers|Firma|Firma del titular|Firma del titolare|Assinatura|Handtekening|Podpis|Podpis držitele|Podpis posiadacza|Potpis|Vlastoručni potpis|Aláírás|Semnătura|Namnteckning|Underskrift|Allekirjoitus|Allkiri|Paraksts|Parašas|İmza|Υπογραφή|Підпис|Подпись|Remarks|Remarques|Anmerkungen|Observations|Observaciones|Observações|Annotazioni|Uwagi|Poznámky|Place of issue|Lieu de délivrance|Ausstellungsort|Lugar de expedición|Luogo di rilascio|Local de emissão|Plaats van afgifte|Izdošanas vieta|Valid from|Gültig ab|Valable à partir du|Valable du|Valido a partir del|Ważna od|Valid for|Valable pour|Also known as|Name in Thai|Alias|Title|Titre|Eye colour|Colour of eyes|Eyes|Augenfarbe|Couleur des yeux|Color de ojos|Colore degli occhi|Kolor oczu|Barva očí|Boja očiju|Szemszín|Kleur ogen|Hair|Weight|Religious name|Ordensname|Religious name or pseudonym|Ordens- oder Künstlername|Name at birth|Birth name|Geburtsname|Nom de naissance|Nom d'usage|Nom d'époux|Nom d'épouse|Rodné příjmení|Nazwisko rodowe|Nom de jeune fille|Születési név|Name of father|Father's name|Nombre del padre|Filiación|Filiação|Nome do pai|Imiona rodziców|Parents' given names|Given names of parents|Imię ojca|Imię matki|Anyja neve|Mother's name|Mother's maiden name|Name of mother|Nom du père|Nom de la mère|Hijo de|Name of spouse|Spouse|Profession|Occupation|Beruf|Profesión|Professione|Marital status|Familienstand|Estado civil|Stato civile|Category|Class|Classes|Kategorie|Clase|Restrictions|Endorsements|Number of entries|Nombre d'entrées|Number of entries|Anzahl der Einreisen|Núm. de entradas|Ilość wjazdów|Duration of stay|Durée de séjour|Dauer des Aufenthalts|Czas pobytu|Rodzaj wizy|Art des Titels|Type of permit|Type de titre|Category of permit|Resident since|Driver licence|Blood group|Donor|Emergency contact|In case of emergency|Place of origin|Heimatort|Lieu d'origine|Luogo di attinenza|Destination|Historical form of the person's name|Personal name historical form|Patronymic|По батькові|Отчество|Patronyme du père|Card access number|Support number|Invalidity|Previous passport|Firma del funcionario expedidor|Kinder|Children|Enfants"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<Label> {
        find(&text.chars().collect::<Vec<_>>(), &mut 1000).iter().map(|found| found.label).collect()
    }

    #[test]
    fn captions_in_many_languages() {
        let cases = [
            ("Surname / Nom (1)", Label::FamilyName),
            ("3. Date of birth / Date de naissance", Label::BirthDate),
            ("01 PRIMENÍ/SURNAME/NOM", Label::FamilyName),
            ("Prenoms/Given nane5", Label::GivenNames),
            ("Дата народження / Date of birth", Label::BirthDate),
            ("Ημερομηνία γέννησης", Label::BirthDate),
            ("Soyadı / Surname", Label::FamilyName),
            ("10. Galioja do/Date dl expiry /Date dexpiraton", Label::ExpiryDate),
            ("datum van afgifte/ date of issue  ate de délierance", Label::IssueDate),
            ("Kenninafa/surnde/Nom", Label::FamilyName),
            ("Sumame", Label::FamilyName),
            ("Gültig ab", Label::Other),
            ("GULTIG BIS", Label::ExpiryDate),
            ("Place of issue", Label::Other),
            ("NAZWISKO RODOWE / FAMILY NAME", Label::Other),
            ("Name / Nom", Label::FamilyOrFull),
        ];
        for (text, expected) in cases {
            assert_eq!(labels(text), [expected], "{text}");
        }
    }

    #[test]
    fn several_captions_in_a_line_keep_their_places() {
        let text = "Country code/ Code du pays Passport Number/ N° de passeport";
        let characters: Vec<char> = text.chars().collect();
        let found = find(&characters, &mut 1000);
        let spans: Vec<(Label, String)> =
            found.iter().map(|found| (found.label, characters[found.start..found.end].iter().collect())).collect();
        assert_eq!(spans[0], (Label::IssuingState, "Country code/ Code du pays".to_owned()));
        assert_eq!(spans[1], (Label::PassportNumber, "Passport Number/ N° de passeport".to_owned()));
    }

    #[test]
    fn values_are_no_captions() {
        for text in [
            "ERIKSSON",
            "ANNA MARIA",
            "12 AUG 74",
            "UTOPIAN",
            "L898902C3",
            "ZENITH",
            "MARTIN",
            "KVK/F",
            "NOMINE SEXTUS",
            "PASSPORT OFFICE",
            "PASSPORT",
            "REPUBLIC OF CROATIA",
        ] {
            assert_eq!(labels(text), [], "{text}");
        }
    }

    /// Exact captions of one field never mean another.
    #[test]
    fn the_table_is_unambiguous() {
        for (at, caption) in CAPTIONS.iter().enumerate() {
            for other in CAPTIONS.iter().skip(at + 1).filter(|other| other.letters == caption.letters) {
                assert_eq!(caption.label, other.label, "{:?}", caption.letters);
            }
        }
    }
}
