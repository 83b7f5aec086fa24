//! The commands of Kafka's own tools that hints and findings print, ready to paste.

use super::KafkaConfig;

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
        let plain = matches!(
            self.config.properties.get("security.protocol"),
            None | Some("plaintext" | "PLAINTEXT")
        );
        if plain {
            format!("{name} --bootstrap-server {brokers}")
        } else {
            format!("{name} --bootstrap-server {brokers} --command-config admin.properties")
        }
    }

    /// Whom the brokers see.
    fn principal(&self) -> &str {
        self.config
            .properties
            .get("sasl.username")
            .unwrap_or("ANONYMOUS")
    }

    /// Lets us write to, read and describe `topic`.
    pub(super) fn allow_topic(&self, topic: &str) -> String {
        format!(
            "{} --add --allow-principal 'User:{}' --operation Write --operation Read \
             --operation Describe --operation DescribeConfigs --topic '{topic}'",
            self.tool("kafka-acls.sh"),
            self.principal()
        )
    }

    /// Lets us create `topic`.
    pub(super) fn allow_creating(&self, topic: &str) -> String {
        format!(
            "{} --add --allow-principal 'User:{}' --operation Create --topic '{topic}'",
            self.tool("kafka-acls.sh"),
            self.principal()
        )
    }

    /// Lets us publish in transactions under both of our ids.
    pub(super) fn allow_transactions(&self) -> String {
        let ids = self.config.transactional_ids();
        format!(
            "{} --add --allow-principal 'User:{}' --operation Write --operation Describe \
             --transactional-id {}",
            self.tool("kafka-acls.sh"),
            self.principal(),
            ids.map(|id| format!("'{id}'")).join(" --transactional-id ")
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
