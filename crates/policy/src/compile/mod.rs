//! From the rules of a workload to the table the kernel reads.
//!
//! ```text
//! targets, sources ──nfa: tree of tokens──▶ dfa: subset construction ──merge, pack──▶ cells ─┐
//!                                                   └─ sets of rules ──rows──▶ rows ─────────┴─▶ table
//! ```
//!
//! Building is bounded in time and size: patterns that would multiply states are refused, by name,
//! and never built.

mod arguments;
mod dfa;
mod merge;
mod nfa;
mod pack;
mod prune;
mod rows;
mod words;

use std::{collections::HashMap, fmt, sync::Arc};

use karmor_abi::{
    limits,
    op::Object,
    table::{CLASS_WORDS_LOG2, HEADER_WORDS, Header, TableError, View},
    verdict::NO_RULE,
};

use self::{
    arguments::Arguments,
    dfa::{Dfa, Explosion},
    nfa::{Item, NO_PLACE, Nfa},
    prune::Pruner,
    rows::{Rows, SetKey},
};
use crate::{
    compiled::{Compiled, RuleInfo},
    essential,
    glob::{ByteSet, Glob, GlobError, Token},
    model::{Family, Location, Source, Target},
    select::Effective,
    semantics,
};

/// Words of the largest table.
pub const WORDS_MAX: usize = 1 << CLASS_WORDS_LOG2[CLASS_WORDS_LOG2.len() - 1];

pub use self::dfa::STATES_MAX;

/// Stands among the rules that a source satisfies for that it is an essential program.
const ESSENTIAL: u32 = u32::MAX;

/// Most patterns named in a [`CompileError::TooComplex`].
const CULPRITS_MAX: usize = 5;

/// Why rules were not compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// More rules than verdicts can name.
    #[error("{rules} rules apply to one workload, more than the {max} that can", max = limits::RULES)]
    TooManyRules {
        /// Rules that apply.
        rules: usize,
    },
    /// A pattern that is not a glob.
    #[error("{location}: pattern `{pattern}` is not valid")]
    Glob {
        /// The rule.
        location: Location,
        /// Its pattern.
        pattern: String,
        /// What is wrong.
        #[source]
        source: GlobError,
    },
    /// A path that holds a NUL byte, which no file's path does.
    #[error("{location}: `{}` contains a NUL byte", path.escape_debug())]
    Nul {
        /// The rule.
        location: Location,
        /// Its path, directory, name or source.
        path: String,
    },
    /// The patterns together need more states than a table holds.
    #[error(
        "the patterns together are too complex ({states} states were not enough): {}; use fewer \
         `*` and `**`, or directories",
        Listed(culprits)
    )]
    TooComplex {
        /// States built before giving up.
        states: usize,
        /// The patterns that contribute most, the worst first.
        culprits: Vec<(Location, String)>,
    },
    /// More rules with arguments than bits of a row.
    #[error(
        "{location}: {rules} rules with allowedArgs apply to one workload, more than the {max} that \
         can",
        max = limits::ARGUMENT_RULES
    )]
    TooManyLists {
        /// Rules that apply.
        rules: usize,
        /// The first that is too many.
        location: Location,
    },
    /// The table would be larger than the kernel half reads.
    #[error(
        "{rules} rules with {sources} different sources need a table of more than {WORDS_MAX} \
         words; split the policy, or name fewer sources"
    )]
    TooLarge {
        /// Rules that apply.
        rules: usize,
        /// Source classes.
        sources: usize,
    },
    /// The table that came out is not one: a fault of this compiler, never of the rules.
    #[error("the compiler produced an invalid table")]
    Invalid(#[source] TableError),
}

struct Listed<'a>(&'a [(Location, String)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (location, pattern)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}`{pattern}` ({location})")?;
        }
        Ok(())
    }
}

/// Compiles the rules of a workload.
///
/// Equal inputs give equal tables. The result always passes [`View::parse`].
///
/// # Errors
/// When a glob is invalid or the rules need more than a table holds.
pub fn compile(effective: &Effective) -> Result<Compiled, CompileError> {
    if effective.rules.len() > limits::RULES {
        return Err(CompileError::TooManyRules {
            rules: effective.rules.len(),
        });
    }
    let arguments = Arguments::collect(effective)?;
    let patterns = Patterns::collect(effective, &arguments)?;
    let dfa = dfa::determinise(&patterns.nfa, &Pruner::new(&patterns.nfa, effective))
        .map_err(|explosion| patterns.too_complex(effective, &explosion))?;
    let sets = Sets::collect(&patterns, &dfa);
    let too_large = || CompileError::TooLarge {
        rules: effective.rules.len(),
        sources: sets.classes.len(),
    };

    let mut rows = Rows::new(effective, &sets.classes, sets.essential, &arguments);
    let mut set_words = Vec::with_capacity(sets.keys.len() + Object::ALL.len());
    let mut set_rules = Vec::with_capacity(sets.keys.len() + Object::ALL.len());
    for (index, key) in sets.keys.iter().enumerate() {
        set_words.push(rows.named_set(key, index > 0 || sets.empty_reachable).0);
        if rows.words().len() > WORDS_MAX {
            return Err(too_large());
        }
    }
    set_rules.extend(sets.keys.iter().map(|key| key.rules.clone()));
    let mut class_sets = [0; Object::ALL.len()];
    for object in Object::ALL {
        let (named, set) = rows.object_set(object);
        class_sets[object as usize] = u32::try_from(set_words.len()).unwrap_or(u32::MAX);
        set_words.push(set.0);
        set_rules.push(named);
    }

    let fixed = HEADER_WORDS as usize + set_words.len() + rows.words().len();
    let room = WORDS_MAX.checked_sub(fixed).ok_or_else(too_large)?;
    let cells = pack::pack(&merge::merge(&dfa, &sets.accept), room).ok_or_else(too_large)?;
    let words = assemble(effective, &sets, &cells, class_sets, &set_words, &rows);
    View::parse(&words).map_err(CompileError::Invalid)?;
    Ok(Compiled {
        words,
        rules: rule_infos(effective),
        sets: set_rules,
    })
}

fn assemble(
    effective: &Effective,
    sets: &Sets,
    cells: &pack::Cells,
    class_sets: [u32; 3],
    set_words: &[u64],
    rows: &Rows<'_>,
) -> Vec<u64> {
    // All of these are far below 2^32: the whole is at most WORDS_MAX.
    let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let sets_at = HEADER_WORDS + size(cells.words.len());
    let rows_at = sets_at + size(set_words.len());
    let header = Header {
        start: cells.start,
        len: rows_at + size(rows.words().len()),
        sets: (sets_at, size(set_words.len())),
        rows: (
            rows_at,
            size(rows.words().len()) / karmor_abi::op::Op::COLUMNS,
        ),
        class_sets,
        sources: size(sets.classes.len()),
        essential: sets.essential,
        ops: rows.ops(),
        rules: size(effective.rules.len()),
    };
    [
        header.to_words().as_slice(),
        &cells.words,
        set_words,
        rows.words(),
    ]
    .concat()
}

fn rule_infos(effective: &Effective) -> Vec<RuleInfo> {
    // Rules of a policy stand next to each other and share its names.
    let mut infos: Vec<RuleInfo> = Vec::with_capacity(effective.rules.len());
    let mut last: Option<usize> = None;
    for (index, entry) in effective.rules.iter().enumerate() {
        let same = last.filter(|&at| Arc::ptr_eq(&effective.rules[at].policy, &entry.policy));
        let (policy, namespace) = match same {
            Some(at) => (
                Arc::clone(&infos[at].policy),
                Arc::clone(&infos[at].namespace),
            ),
            None => (
                entry.policy.name.as_str().into(),
                entry.policy.namespace.as_str().into(),
            ),
        };
        let rule = entry.rule();
        let (meta, location) = (Arc::clone(&rule.meta), rule.location.clone());
        infos.push(RuleInfo {
            policy,
            namespace,
            meta,
            location,
        });
        last = Some(index);
    }
    infos
}

fn bytes(text: &str) -> Vec<Token> {
    text.bytes().map(Token::Byte).collect()
}

/// The patterns of a directory itself and of what is in it.
fn directory(name: &str, recursive: bool) -> (Vec<Token>, Vec<Token>) {
    let inside: &[Token] = if recursive {
        &[Token::DoubleStar]
    } else {
        &[Token::Class(ByteSet::NAME), Token::Star]
    };
    match name.trim_end_matches('/') {
        "" => (bytes("/"), [&bytes("/"), inside].concat()),
        own => (bytes(own), [&bytes(own), &bytes("/"), inside].concat()),
    }
}

/// Everything the automaton recognises.
struct Patterns {
    nfa: Nfa,
    /// For each source, the rules that list it.
    rules_of_source: Vec<Vec<u32>>,
    /// Rules by [`semantics::precedence`], and the place of each in it.
    precedence: Vec<u32>,
    places: Vec<u32>,
}

impl Patterns {
    fn collect(effective: &Effective, arguments: &Arguments) -> Result<Self, CompileError> {
        let precedence = semantics::precedence(effective);
        let mut places = vec![NO_PLACE; precedence.len()];
        for (place, &rule) in (0..).zip(&precedence) {
            places[rule as usize] = place;
        }
        let mut patterns = Self {
            nfa: Nfa::new(),
            rules_of_source: Vec::new(),
            precedence,
            places,
        };
        let mut source_index: HashMap<&Source, usize> = HashMap::new();
        for (index, rule) in (0..).zip(effective.rules()) {
            let nul = |path: &str| CompileError::Nul {
                location: rule.location.clone(),
                path: path.to_owned(),
            };
            patterns.target(effective, index, nul)?;
            for source in &rule.sources {
                if source.path().contains('\0') {
                    return Err(nul(source.path()));
                }
                let known = source_index.len();
                let at = *source_index.entry(source).or_insert(known);
                if at == known {
                    patterns.rules_of_source.push(Vec::new());
                    let item = Item::Source(u32::try_from(at).unwrap_or(u32::MAX));
                    patterns.source(effective, source, item);
                }
                patterns.rules_of_source[at].push(index);
            }
        }
        if effective.spares() {
            let at = u32::try_from(patterns.rules_of_source.len()).unwrap_or(u32::MAX);
            patterns.rules_of_source.push(vec![ESSENTIAL]);
            for source in essential::sources() {
                patterns.source(effective, &source, Item::Source(at));
            }
        }
        for (bit, index) in arguments.rules() {
            let rule = effective.rules[index as usize].rule();
            for word in arguments::words(rule) {
                patterns.nfa.insert_word(word, Item::Argument(index));
            }
            let mismatch = arguments::mismatch(bit);
            patterns.nfa.insert_word(mismatch, Item::Mismatch(index));
        }
        for family in Family::ALL {
            if effective.is_whitelisted(family)
                && let Some(all) = words::all(family)
            {
                patterns.nfa.insert_word(all, Item::Family(family));
            }
        }
        if effective.rules().any(|rule| rule.family == Family::Dns) {
            patterns
                .nfa
                .insert_word(words::unreadable(), Item::Unreadable);
        }
        patterns.nfa.share_ends();
        Ok(patterns)
    }

    fn source(&mut self, effective: &Effective, source: &Source, item: Item) {
        for name in effective.aliases.names(source.path()) {
            match source {
                Source::Path(_) => {
                    self.nfa.insert(bytes(&name), item);
                }
                Source::Directory { recursive, .. } => {
                    let (own, inside) = directory(&name, *recursive);
                    self.nfa.insert(own, item);
                    self.nfa.insert(inside, item);
                }
            }
        }
    }

    fn target(
        &mut self,
        effective: &Effective,
        index: u32,
        nul: impl Fn(&str) -> CompileError,
    ) -> Result<(), CompileError> {
        let rule = effective.rules[index as usize].rule();
        let item = Item::Rule(index);
        let has_nul = |place: &Target| place.path().is_some_and(|path| path.contains('\0'));
        let guards = semantics::may_block(rule);
        let place = self.places[index as usize];
        match &rule.target {
            Target::Path(path)
            | Target::ExecName(path)
            | Target::Directory { path, .. }
            | Target::Domain(path)
                if path.contains('\0') =>
            {
                return Err(nul(path));
            }
            Target::SyscallAt { place, .. } if has_nul(place) => {
                return Err(nul(place.path().unwrap_or_default()));
            }
            Target::Path(path) => {
                for name in effective.aliases.names(path) {
                    let end = self.nfa.insert(bytes(&name), item);
                    if guards {
                        self.nfa.guard(end, place);
                    }
                }
            }
            Target::ExecName(name) => {
                // Any directory, whatever it is called: nothing to guard.
                let tokens = [Token::DoubleStar, Token::Byte(b'/')]
                    .into_iter()
                    .chain(bytes(name));
                self.nfa.insert(tokens, item);
            }
            Target::Directory { path, recursive } => {
                for name in effective.aliases.names(path) {
                    let (own, inside) = directory(&name, *recursive);
                    let end = self.nfa.insert(own, item);
                    if guards {
                        self.nfa.guard(end, place);
                        self.nfa.guard_self(end, place);
                    }
                    self.nfa.insert(inside, item);
                }
            }
            Target::Glob(text) => {
                let glob = Glob::parse(text).map_err(|source| CompileError::Glob {
                    location: rule.location.clone(),
                    pattern: text.clone(),
                    source,
                })?;
                for alternative in glob.alternatives() {
                    for tokens in effective.aliases.token_names(alternative) {
                        let end = self.nfa.insert(tokens, item);
                        if guards {
                            self.nfa.guard(end, place);
                        }
                    }
                }
            }
            // Decided without a path.
            Target::Object(_) => {}
            word => {
                for tokens in words::patterns(word, &effective.aliases) {
                    self.nfa.insert_word(tokens, item);
                }
            }
        }
        Ok(())
    }

    /// Names the patterns whose loops fill the states of an automaton that grew too large.
    fn too_complex(&self, effective: &Effective, explosion: &Explosion) -> CompileError {
        // Loops above a pattern's end are its own, or shared with patterns that begin alike.
        let mut weight: HashMap<u32, usize> = HashMap::new();
        let mut stack = vec![(nfa::ROOT, 0), (nfa::WORDS, 0)];
        while let Some((index, above)) = stack.pop() {
            let node = &self.nfa.nodes[index as usize];
            let total = above + explosion.loops[index as usize];
            for item in &node.items {
                if let Item::Rule(rule) = *item {
                    *weight.entry(rule).or_insert(0) += total;
                }
            }
            stack.extend(node.children().map(|child| (child, total)));
        }
        let mut globs: Vec<(usize, &Location, &String)> = (0..)
            .zip(effective.rules())
            .filter_map(|(index, rule)| match &rule.target {
                Target::Glob(text) => Some((
                    weight.get(&index).copied().unwrap_or(0),
                    &rule.location,
                    text,
                )),
                _ => None,
            })
            .collect();
        // Stable: of equals, the first in the text is named first.
        globs.sort_by_key(|&(weight, ..)| std::cmp::Reverse(weight));
        let culprits = globs
            .into_iter()
            .take(CULPRITS_MAX)
            .map(|(_, location, text)| (location.clone(), text.clone()))
            .collect();
        CompileError::TooComplex {
            states: explosion.states,
            culprits,
        }
    }
}

/// What the states of the automaton stand for.
struct Sets {
    /// Set of each state.
    accept: Vec<u32>,
    /// Sets by number; set 0 is that of paths nothing matches.
    keys: Vec<SetKey>,
    /// Rules with sources that each source class satisfies; class 0 satisfies none.
    classes: Vec<Box<[u32]>>,
    /// The first class of essential programs.
    essential: u32,
    /// Whether some path ends in set 0.
    empty_reachable: bool,
}

impl Sets {
    fn collect(patterns: &Patterns, dfa: &Dfa) -> Self {
        let guarded = patterns.nfa.guarded_directories();
        let words = patterns.nfa.words();
        let empty = SetKey {
            rules: Box::default(),
            source: 0,
            guard: NO_RULE,
            family: None,
            listing: Box::default(),
            mismatch: None,
            unreadable: false,
        };
        let mut known = HashMap::from([(empty.clone(), 0)]);
        let mut known_classes: HashMap<Box<[u32]>, u32> = HashMap::from([(Box::default(), 0)]);
        let mut sets = Self {
            accept: Vec::with_capacity(dfa.states.len()),
            keys: vec![empty],
            classes: vec![Box::default()],
            essential: 0,
            empty_reachable: false,
        };
        let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let (mut rules, mut satisfied, mut listing) = (Vec::new(), Vec::new(), Vec::new());
        for (index, state) in dfa.states.iter().enumerate() {
            rules.clear();
            satisfied.clear();
            listing.clear();
            let members = dfa.members(state);
            let mut guard = NO_PLACE;
            let (mut family, mut mismatch, mut unreadable) = (None, None, false);
            for &member in members {
                guard = guard.min(guarded[member as usize]);
                for item in &patterns.nfa.nodes[member as usize].items {
                    match *item {
                        Item::Rule(rule) => rules.push(rule),
                        Item::Source(source) => {
                            satisfied.extend(&patterns.rules_of_source[source as usize]);
                        }
                        Item::Family(whitelist) => family = Some(whitelist),
                        Item::Argument(rule) => listing.push(rule),
                        Item::Mismatch(rule) => mismatch = Some(rule),
                        Item::Unreadable => unreadable = true,
                    }
                }
            }
            if dfa::is_root_directory(members) {
                guard = NO_PLACE;
            }
            for list in [&mut rules, &mut satisfied, &mut listing] {
                list.sort_unstable();
                list.dedup();
            }
            let source = match known_classes.get(satisfied.as_slice()) {
                Some(&class) => class,
                None => {
                    let class = number(sets.classes.len());
                    sets.classes.push(satisfied.as_slice().into());
                    known_classes.insert(satisfied.as_slice().into(), class);
                    class
                }
            };
            let key = SetKey {
                rules: rules.as_slice().into(),
                source,
                guard: patterns
                    .precedence
                    .get(guard as usize)
                    .copied()
                    .unwrap_or(NO_RULE),
                family,
                listing: listing.as_slice().into(),
                mismatch,
                unreadable,
            };
            let set = *known.entry(key).or_insert_with_key(|key| {
                sets.keys.push(key.clone());
                number(sets.keys.len() - 1)
            });
            sets.accept.push(set);
            let dead_end = state.default == dfa::DEAD && dfa.edges(state).len() < 255;
            // The first state is not that of any path, and its only way to one is `/`.
            let is_word = members.iter().any(|&member| words[member as usize]);
            let is_path = index != dfa::START as usize && !is_word;
            let leads_nowhere = dead_end || dfa.edges(state).iter().any(|e| e.1 == dfa::DEAD);
            sets.empty_reachable |= is_path && (set == 0 || leads_nowhere);
        }
        sets.number_essential_last();
        sets
    }

    /// Gives the classes of essential programs the highest numbers, so that one number tells them, and
    /// the lowest numbers to those that they are without being essential, in the same order: those that
    /// [`table::class_of`] finds.
    fn number_essential_last(&mut self) {
        let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let old = std::mem::take(&mut self.classes);
        let (mut essential, plain): (Vec<_>, Vec<_>) = old
            .iter()
            .cloned()
            .partition(|class| class.last() == Some(&ESSENTIAL));
        // The first is that of no rule, which class 0 is the other of.
        if !essential.is_empty() {
            essential.retain(|class| class.len() > 1);
            essential.insert(0, Box::from([ESSENTIAL]));
        }
        let mut classes: Vec<Box<[u32]>> = essential
            .iter()
            .map(|class| class[..class.len() - 1].into())
            .collect();
        let others: Vec<_> = plain.into_iter().filter(|c| !classes.contains(c)).collect();
        classes.extend(others);
        self.essential = number(classes.len());
        classes.extend(essential);
        let numbers: HashMap<&[u32], u32> = (0..).zip(&classes).map(|(n, c)| (&**c, n)).collect();
        for key in &mut self.keys {
            key.source = numbers[&*old[key.source as usize]];
        }
        self.classes = classes;
    }
}
