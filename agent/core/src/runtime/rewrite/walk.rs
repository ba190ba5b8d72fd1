//! Looks through a pattern that Rust parses for what Go refuses or reads otherwise.

use regex_syntax::ast::AssertionKind;
use regex_syntax::ast::Ast;
use regex_syntax::ast::ClassSet;
use regex_syntax::ast::ClassSetBinaryOp;
use regex_syntax::ast::ClassSetBinaryOpKind;
use regex_syntax::ast::ClassSetItem;
use regex_syntax::ast::ClassUnicode;
use regex_syntax::ast::ClassUnicodeKind;
use regex_syntax::ast::Flag;
use regex_syntax::ast::Flags;
use regex_syntax::ast::FlagsItemKind;
use regex_syntax::ast::GroupKind;
use regex_syntax::ast::HexLiteralKind;
use regex_syntax::ast::Literal;
use regex_syntax::ast::LiteralKind;
use regex_syntax::ast::Repetition;
use regex_syntax::ast::RepetitionKind;
use regex_syntax::ast::RepetitionRange;
use regex_syntax::ast::Span;

/// Go's limit on a repeat count, and on the product of nested ones.
pub(super) const MOST_REPEATS: u32 = 1000;
pub(super) const COUNT: &str = "a repeat count, or the product of nested ones, is over 1000";
pub(super) const SYNTAX: &str = "Go's syntax differs from the one known here";

/// Go's own test (`repeatIsValid`): the counts along each path multiply.
pub(super) fn has_counts_within_bound(ast: &Ast, bound: u32) -> bool {
    match ast {
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::Assertion(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => true,
        Ast::Group(group) => has_counts_within_bound(&group.ast, bound),
        Ast::Alternation(all) => all.asts.iter().all(|ast| has_counts_within_bound(ast, bound)),
        Ast::Concat(all) => all.asts.iter().all(|ast| has_counts_within_bound(ast, bound)),
        Ast::Repetition(repetition) => {
            let (least, most) = match &repetition.op.kind {
                RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => (0, 0),
                RepetitionKind::Range(RepetitionRange::Exactly(n)) => (*n, *n),
                RepetitionKind::Range(RepetitionRange::AtLeast(n)) => (*n, *n),
                RepetitionKind::Range(RepetitionRange::Bounded(n, m)) => (*n, *m),
            };
            let count = least.max(most);
            if count > bound || count > MOST_REPEATS {
                return false;
            }
            let left = bound.checked_div(count).unwrap_or(bound);
            has_counts_within_bound(&repetition.ast, left)
        }
    }
}

/// Looks for what Rust accepts and Go does not.
pub(super) struct Walk<'p> {
    pattern: &'p str,
    /// What Go refuses.
    pub(super) refused: Option<&'static str>,
    /// What Go may read otherwise.
    pub(super) unsure: Option<&'static str>,
}

impl<'p> Walk<'p> {
    pub(super) fn of(pattern: &'p str) -> Self {
        Self { pattern, refused: None, unsure: None }
    }

    fn refuse(&mut self, why: &'static str) {
        self.refused.get_or_insert(why);
    }

    fn doubt(&mut self, why: &'static str) {
        self.unsure.get_or_insert(why);
    }

    fn text(&self, span: &Span) -> &str {
        self.pattern.get(span.start.offset..span.end.offset).unwrap_or_default()
    }

    pub(super) fn ast(&mut self, ast: &Ast) {
        match ast {
            Ast::Empty(_) | Ast::Dot(_) | Ast::ClassPerl(_) => {}
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Literal(literal) => self.literal(literal),
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary
                // Go takes `\<` for an escaped `<`.
                | AssertionKind::WordBoundaryStartAngle
                | AssertionKind::WordBoundaryEndAngle => {}
                AssertionKind::WordBoundaryStart
                | AssertionKind::WordBoundaryEnd
                | AssertionKind::WordBoundaryStartHalf
                | AssertionKind::WordBoundaryEndHalf => self.doubt("`\\b{…}` is a word boundary and literal text in Go"),
            },
            Ast::ClassUnicode(class) => self.unicode(class),
            Ast::ClassBracketed(class) => self.class_set(&class.kind),
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::Group(group) => {
                match &group.kind {
                    GroupKind::CaptureIndex(_) => {}
                    GroupKind::CaptureName { name, .. } => {
                        if !name.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                            self.refuse("a group's name has other characters than ASCII letters, digits and _");
                        }
                    }
                    GroupKind::NonCapturing(flags) => self.flags(flags),
                }
                self.ast(&group.ast);
            }
            Ast::Alternation(all) => all.asts.iter().for_each(|ast| self.ast(ast)),
            Ast::Concat(all) => all.asts.iter().for_each(|ast| self.ast(ast)),
        }
    }

    fn flags(&mut self, flags: &Flags) {
        for item in &flags.items {
            match &item.kind {
                FlagsItemKind::Negation
                | FlagsItemKind::Flag(
                    Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed,
                ) => {}
                FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace) => {
                    self.refuse("Go knows the flags i, m, s and U only");
                }
            }
        }
    }

    fn literal(&mut self, literal: &Literal) {
        match &literal.kind {
            LiteralKind::Verbatim | LiteralKind::Meta | LiteralKind::Superfluous | LiteralKind::Special(_) => {}
            LiteralKind::HexFixed(HexLiteralKind::X) | LiteralKind::HexBrace(HexLiteralKind::X) => {}
            LiteralKind::HexFixed(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong)
            | LiteralKind::HexBrace(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong) => {
                self.refuse("Go has no \\u and no \\U: write \\x{…}");
            }
            LiteralKind::Octal => self.doubt(SYNTAX),
        }
    }

    fn unicode(&mut self, class: &ClassUnicode) {
        const CATEGORIES: &str = " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So \
                                  Z Zs Zl Zp C Cc Cf Co Cs Latin Greek Cyrillic Han Arabic Hebrew ";
        let is_known = |name: &str| !name.is_empty() && CATEGORIES.contains(&format!(" {name} "));
        match &class.kind {
            ClassUnicodeKind::OneLetter(letter) if is_known(&letter.to_string()) => {}
            ClassUnicodeKind::Named(name) if is_known(name.strip_prefix('^').unwrap_or(name)) => {}
            ClassUnicodeKind::NamedValue { .. } => self.refuse("Go has no \\p{name=value}"),
            ClassUnicodeKind::OneLetter(_) | ClassUnicodeKind::Named(_) => {
                self.doubt("the names of Unicode classes differ between versions of Go");
            }
        }
    }

    fn repetition(&mut self, repetition: &Repetition) {
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            self.refuse("a repetition of a repetition, like a**");
        }
        if matches!(repetition.op.kind, RepetitionKind::Range(_)) && !is_go_count(self.text(&repetition.op.span)) {
            self.doubt("Go takes a count that is not {n}, {n,} or {n,m} for literal text");
        }
        self.ast(&repetition.ast);
    }

    fn class_set(&mut self, set: &ClassSet) {
        match set {
            ClassSet::Item(item) => self.class_item(item),
            ClassSet::BinaryOp(operation) => self.class_operation(operation),
        }
    }

    fn class_item(&mut self, item: &ClassSetItem) {
        match item {
            ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Perl(_) => {}
            ClassSetItem::Literal(literal) => self.literal(literal),
            ClassSetItem::Range(range) => {
                self.literal(&range.start);
                self.literal(&range.end);
            }
            ClassSetItem::Unicode(class) => self.unicode(class),
            ClassSetItem::Bracketed(_) => self.doubt("Go has no class within a class: it takes the [ for itself"),
            ClassSetItem::Union(union) => union.items.iter().for_each(|item| self.class_item(item)),
        }
    }

    fn class_operation(&mut self, operation: &ClassSetBinaryOp) {
        let last = match &*operation.lhs {
            ClassSet::Item(ClassSetItem::Literal(literal)) => Some(literal.c),
            ClassSet::Item(ClassSetItem::Union(union)) => match union.items.last() {
                Some(ClassSetItem::Literal(literal)) => Some(literal.c),
                Some(_) | None => None,
            },
            ClassSet::Item(_) | ClassSet::BinaryOp(_) => None,
        };
        match (&operation.kind, last) {
            (ClassSetBinaryOpKind::Difference, Some(last)) if last > '-' => {
                self.refuse("Go reads -- in a class as a range that ends in -, and this one runs backwards");
            }
            (
                ClassSetBinaryOpKind::Difference
                | ClassSetBinaryOpKind::Intersection
                | ClassSetBinaryOpKind::SymmetricDifference,
                _,
            ) => self.doubt("Go has no set operations in a class"),
        }
    }
}

/// `{n}`, `{n,}` or `{n,m}`, lazy or not, without blanks and leading zeros.
pub(super) fn is_go_count(text: &str) -> bool {
    let text = text.strip_suffix('?').unwrap_or(text);
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else { return false };
    let is_number = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'))
    };
    match inner.split_once(',') {
        None => is_number(inner),
        Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
    }
}
