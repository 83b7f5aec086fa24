//! The commands of Kafka's own tools that hints and findings print, ready to paste.

use super::{KafkaConfig, properties};

/// Prints commands for one cluster and one user.
pub(super) struct Commands<'a> {
    config: &'a KafkaConfig,
}

impl<'a> Commands<'a> {
    pub(super) fn of(config: &'a KafkaConfig) -> Self {
        Self { config }
    }

    /// `tool --bootstrap-server ...`, with a place for the administrator's own login where one is needed.
    fn tool(&self, name: &str) -> String {
        let brokers = &self.config.brokers;
        let protocol = self.config.properties.get("security.protocol");
        if protocol.is_none_or(|protocol| protocol.eq_ignore_ascii_case("plaintext")) {
            format!("{name} --bootstrap-server {brokers}")
        } else {
            format!("{name} --bootstrap-server {brokers} --command-config admin.properties")
        }
    }

    /// `--allow-principal` with whom the brokers see; a name that only they know is left to be filled in.
    fn to_us(&self) -> String {
        let settings = properties::publisher(self.config).ok();
        let principal = settings.as_ref().and_then(|settings| settings.principal());
        format!(
            "--allow-principal 'User:{}'",
            principal.unwrap_or("PRINCIPAL")
        )
    }

    fn allow(&self, operations: &[&str], resource: &str) -> String {
        let operations: Vec<_> = operations
            .iter()
            .map(|operation| format!("--operation {operation}"))
            .collect();
        format!(
            "{} --add {} {} {resource}",
            self.tool("kafka-acls.sh"),
            self.to_us(),
            operations.join(" ")
        )
    }

    /// Lets us do with `topic` what a pipeline does: only the position and the state are read back.
    pub(super) fn allow_topic(&self, topic: &str) -> String {
        let is_read = topic == self.config.position_topic() || topic == self.config.state_topic();
        let operations: &[&str] = match is_read {
            true => &["Write", "Read", "Describe", "DescribeConfigs"],
            false => &["Write", "Describe", "DescribeConfigs"],
        };
        self.allow(operations, &format!("--topic '{topic}'"))
    }

    /// Lets us create `topic`.
    pub(super) fn allow_creating(&self, topic: &str) -> String {
        self.allow(&["Create"], &format!("--topic '{topic}'"))
    }

    /// Lets us delete `topic`.
    pub(super) fn allow_deleting(&self, topic: &str) -> String {
        self.allow(&["Delete"], &format!("--topic '{topic}'"))
    }

    /// Lets us publish in transactions under both of our ids.
    pub(super) fn allow_transactions(&self) -> String {
        let ids = self.config.transactional_ids();
        let ids = ids.map(|id| format!("--transactional-id '{id}'"));
        self.allow(&["Write", "Describe"], &ids.join(" "))
    }

    /// Gives our user a password.
    pub(super) fn set_password(&self, mechanism: &str) -> String {
        let user = self.config.properties.get("sasl.username");
        format!(
            "{} --alter --entity-type users --entity-name '{}' --add-config '{mechanism}=[password=...]'",
            self.tool("kafka-configs.sh"),
            user.unwrap_or_default()
        )
    }

    /// Creates `topic`; `partitions` and `replication` only where they are not the brokers' defaults.
    pub(super) fn create_topic(
        &self,
        topic: &str,
        partitions: Option<u32>,
        replication: Option<u16>,
        settings: &[(&'static str, String)],
    ) -> String {
        let mut command = format!(
            "{} --create --if-not-exists --topic '{topic}'",
            self.tool("kafka-topics.sh")
        );
        if let Some(partitions) = partitions {
            command += &format!(" --partitions {partitions}");
        }
        if let Some(replication) = replication {
            command += &format!(" --replication-factor {replication}");
        }
        for (name, value) in settings {
            command += &format!(" --config {name}={value}");
        }
        command
    }

    /// Gives `topic` more partitions.
    pub(super) fn add_partitions(&self, topic: &str, partitions: u32) -> String {
        format!(
            "{} --alter --topic '{topic}' --partitions {partitions}",
            self.tool("kafka-topics.sh")
        )
    }

    /// Changes one setting of `topic`. A value with commas is bracketed, as kafka-configs wants it.
    pub(super) fn set_topic(&self, topic: &str, name: &str, value: &str) -> String {
        let value = if value.contains(',') {
            format!("[{value}]")
        } else {
            value.to_owned()
        };
        format!(
            "{} --alter --entity-type topics --entity-name '{topic}' --add-config {name}={value}",
            self.tool("kafka-configs.sh")
        )
    }
}
