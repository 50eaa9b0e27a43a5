//! Which messages both sides know, by their common names. LeaderChangeMessage and VotersRecord are
//! not among them: there the other side takes the field named `version` for the message's version.

/// Calls `$each!` with the other implementation's crate, the messages given, and those that every
/// other implementation has.
macro_rules! with_common {
    ($each:ident, $kafka:ident, $($more:ident)*) => {
        $each! {
            $kafka, $($more)*
            AddOffsetsToTxnRequest AddOffsetsToTxnResponse AddPartitionsToTxnRequest
            AddPartitionsToTxnResponse AddRaftVoterRequest AddRaftVoterResponse
            AllocateProducerIdsRequest AllocateProducerIdsResponse AlterClientQuotasRequest
            AlterClientQuotasResponse AlterConfigsRequest AlterConfigsResponse
            AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse
            AlterPartitionRequest AlterPartitionResponse AlterReplicaLogDirsRequest
            AlterReplicaLogDirsResponse AlterUserScramCredentialsRequest
            AlterUserScramCredentialsResponse ApiVersionsRequest ApiVersionsResponse
            AssignReplicasToDirsRequest AssignReplicasToDirsResponse BeginQuorumEpochRequest
            BeginQuorumEpochResponse BrokerHeartbeatRequest BrokerHeartbeatResponse
            BrokerRegistrationRequest BrokerRegistrationResponse ConsumerGroupDescribeRequest
            ConsumerGroupDescribeResponse ConsumerGroupHeartbeatRequest
            ConsumerGroupHeartbeatResponse ConsumerProtocolAssignment ConsumerProtocolSubscription
            ControllerRegistrationRequest ControllerRegistrationResponse CreateAclsRequest
            CreateAclsResponse CreateDelegationTokenRequest CreateDelegationTokenResponse
            CreatePartitionsRequest CreatePartitionsResponse CreateTopicsRequest
            CreateTopicsResponse DefaultPrincipalData DeleteAclsRequest DeleteAclsResponse
            DeleteGroupsRequest DeleteGroupsResponse DeleteRecordsRequest DeleteRecordsResponse
            DeleteTopicsRequest DeleteTopicsResponse DescribeAclsRequest DescribeAclsResponse
            DescribeClientQuotasRequest DescribeClientQuotasResponse DescribeClusterRequest
            DescribeClusterResponse DescribeConfigsRequest DescribeConfigsResponse
            DescribeDelegationTokenRequest DescribeDelegationTokenResponse DescribeGroupsRequest
            DescribeGroupsResponse DescribeLogDirsRequest DescribeLogDirsResponse
            DescribeProducersRequest DescribeProducersResponse DescribeQuorumRequest
            DescribeQuorumResponse DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse
            DescribeTransactionsRequest DescribeTransactionsResponse
            DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse
            ElectLeadersRequest ElectLeadersResponse EndQuorumEpochRequest EndQuorumEpochResponse
            EndTxnRequest EndTxnResponse EnvelopeRequest EnvelopeResponse
            ExpireDelegationTokenRequest ExpireDelegationTokenResponse FetchRequest FetchResponse
            FetchSnapshotRequest FetchSnapshotResponse FindCoordinatorRequest
            FindCoordinatorResponse GetTelemetrySubscriptionsRequest
            GetTelemetrySubscriptionsResponse HeartbeatRequest HeartbeatResponse
            IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse InitProducerIdRequest
            InitProducerIdResponse JoinGroupRequest JoinGroupResponse KRaftVersionRecord
            LeaveGroupRequest LeaveGroupResponse ListGroupsRequest
            ListGroupsResponse ListOffsetsRequest ListOffsetsResponse
            ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse
            ListTransactionsRequest ListTransactionsResponse MetadataRequest MetadataResponse
            OffsetCommitRequest OffsetCommitResponse OffsetDeleteRequest OffsetDeleteResponse
            OffsetFetchRequest OffsetFetchResponse OffsetForLeaderEpochRequest
            OffsetForLeaderEpochResponse ProduceRequest ProduceResponse PushTelemetryRequest
            PushTelemetryResponse RemoveRaftVoterRequest RemoveRaftVoterResponse
            RenewDelegationTokenRequest RenewDelegationTokenResponse SaslAuthenticateRequest
            SaslAuthenticateResponse SaslHandshakeRequest SaslHandshakeResponse SnapshotFooterRecord
            SnapshotHeaderRecord SyncGroupRequest SyncGroupResponse TxnOffsetCommitRequest
            TxnOffsetCommitResponse UnregisterBrokerRequest UnregisterBrokerResponse
            UpdateFeaturesRequest UpdateFeaturesResponse UpdateRaftVoterRequest
            UpdateRaftVoterResponse VoteRequest VoteResponse WriteTxnMarkersRequest
            WriteTxnMarkersResponse
        }
    };
}

/// The list for the crate generated from Kafka 3.9.
macro_rules! with_0_15 {
    ($each:ident) => {
        with_common! {
            $each, kafka_0_15,
            ControlledShutdownRequest ControlledShutdownResponse LeaderAndIsrRequest
            LeaderAndIsrResponse StopReplicaRequest StopReplicaResponse UpdateMetadataRequest
            UpdateMetadataResponse
        }
    };
}

/// The list for the crate generated from Kafka 4.1.
macro_rules! with_0_18 {
    ($each:ident) => {
        with_common! {
            $each, kafka_0_18,
            AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse
            DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse
            DeleteShareGroupStateRequest DeleteShareGroupStateResponse
            DescribeShareGroupOffsetsRequest DescribeShareGroupOffsetsResponse EndTxnMarker
            InitializeShareGroupStateRequest InitializeShareGroupStateResponse
            ListConfigResourcesRequest ListConfigResourcesResponse ReadShareGroupStateRequest
            ReadShareGroupStateResponse ReadShareGroupStateSummaryRequest
            ReadShareGroupStateSummaryResponse ShareAcknowledgeRequest ShareAcknowledgeResponse
            ShareFetchRequest ShareFetchResponse ShareGroupDescribeRequest
            ShareGroupDescribeResponse ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse
            WriteShareGroupStateRequest WriteShareGroupStateResponse
        }
    };
}

pub(crate) use {with_0_15, with_0_18, with_common};
