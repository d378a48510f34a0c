//! The environments a node knows, in order.

use std::{collections::BTreeSet, sync::Arc};

use crate::{EnvId, Environment, builtin, library};

/// Why a list of environments is not a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Two environments answer to one name.
    #[error("two environments are named {0:?}")]
    DuplicateName(String),
    /// An environment has nothing to ask.
    #[error("environment {0:?} has no levels")]
    NoLevels(String),
}

/// Environments, in an order that every node shares.
#[derive(Clone)]
pub struct Registry {
    environments: Vec<(EnvId, Arc<dyn Environment>)>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.iter().map(|one| one.manifest().name.as_str());
        f.debug_list().entries(names).finish()
    }
}

impl Registry {
    /// The environments that are part of the program.
    #[must_use]
    pub fn builtin() -> Registry {
        Registry::new(builtin::all()).expect("built-in names are unique and have levels")
    }

    /// The tasks of the [`library`], in the default setting.
    #[must_use]
    pub fn library() -> Registry {
        Registry::new(library::repaired()).expect("library names are unique and have levels")
    }

    /// Every environment that this program has, so that a manifest can name
    /// any: the built-in ones, the library, and the library as upstream has it.
    #[must_use]
    pub fn all() -> Registry {
        let mut all = builtin::all();
        all.extend(library::repaired());
        all.extend(library::compat());
        Registry::new(all).expect("no two names of the program are the same")
    }

    /// A registry of these environments, in this order.
    pub fn new(environments: Vec<Arc<dyn Environment>>) -> Result<Registry, RegistryError> {
        let mut names = BTreeSet::new();
        for environment in &environments {
            let manifest = environment.manifest();
            if !names.insert(manifest.name.clone()) {
                return Err(RegistryError::DuplicateName(manifest.name.clone()));
            }
            if manifest.levels.is_empty() {
                return Err(RegistryError::NoLevels(manifest.name.clone()));
            }
        }
        let environments = environments
            .into_iter()
            .map(|environment| (environment.manifest().id(), environment))
            .collect();
        Ok(Registry { environments })
    }

    /// One more environment, unless it is here already. A name may come again:
    /// packages are told apart by hash, and a label means the first.
    pub fn add(&mut self, environment: Arc<dyn Environment>) {
        let id = environment.manifest().id();
        if self.get(&id).is_none() {
            self.environments.push((id, environment));
        }
    }

    /// The environment with this name-by-hash.
    #[must_use]
    pub fn get(&self, id: &EnvId) -> Option<&dyn Environment> {
        self.environments
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, environment)| environment.as_ref())
    }

    /// The environment with this name-by-hash, to be put into another registry.
    #[must_use]
    pub fn shared(&self, id: &EnvId) -> Option<Arc<dyn Environment>> {
        let mut known = self.environments.iter();
        let (_, environment) = known.find(|(known, _)| known == id)?;
        Some(Arc::clone(environment))
    }

    /// The environment with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&dyn Environment> {
        self.iter()
            .find(|environment| environment.manifest().name == name)
    }

    /// All environments, in order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Environment> {
        self.environments
            .iter()
            .map(|(_, environment)| environment.as_ref())
    }

    /// The name-by-hash of each environment, in order.
    pub fn ids(&self) -> impl Iterator<Item = EnvId> {
        self.environments.iter().map(|(id, _)| *id)
    }

    /// How many environments there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.environments.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.environments.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_is_found_by_id_and_by_name() {
        let registry = Registry::builtin();
        assert_eq!(registry.len(), 12);
        for (id, environment) in registry.ids().zip(registry.iter()) {
            assert_eq!(
                registry.get(&id).unwrap().manifest(),
                environment.manifest()
            );
            let name = &environment.manifest().name;
            assert_eq!(registry.by_name(name).unwrap().manifest().id(), id);
        }
        assert!(registry.get(&EnvId([0; 32])).is_none());
        assert!(registry.by_name("no such task").is_none());
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut twice = builtin::all();
        twice.extend(builtin::all());
        let error = Registry::new(twice).err().unwrap();
        assert_eq!(error, RegistryError::DuplicateName("add".to_owned()));
    }
}
