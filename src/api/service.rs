//! The gRPC services put together. Each method of [`VerificationService`] is in the file that bears its name.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status, Streaming};

use super::audit::{Entry, Noted};
use super::callers::Callers;
use super::listener::PeerIdentity;
use super::proto::verification_server::{Verification, VerificationServer};
use super::proto::{
    CheckPassiveLivenessRequest, CheckPassiveLivenessResponse, DetectFacesRequest, DetectFacesResponse,
    EstimateAgeRequest, EstimateAgeResponse, GetStatusRequest, GetStatusResponse, MatchFacesRequest,
    MatchFacesResponse, ReadDocumentRequest, ReadDocumentResponse, ScanMrzRequest, VerifyLiveRequest, VerifyRequest,
};
use super::request::Call;
use super::scan_mrz::{ScanStream, scan_mrz};
use super::verify::{EventStream, verify};
use super::verify_live::{LiveStream, max_duration, verify_live};
use super::{check_passive_liveness, detect_faces, estimate_age, get_status, match_faces, read_document};
use crate::config::Rpc;
use crate::ops::counts::Counts;
use crate::pipeline::EngineSlot;

/// Name of the service in health checks.
pub const SERVICE_NAME: &str = "vouch.v1.Verification";

/// The RPC of this service that a path names.
pub(super) fn rpc_of(path: &str) -> Option<Rpc> {
    let name = path.strip_prefix('/')?.strip_prefix(SERVICE_NAME)?.strip_prefix('/')?;
    Rpc::ALL.into_iter().find(|rpc| rpc.name() == name)
}

/// The service of `proto/vouch/v1/vouch.proto`.
pub struct VerificationService {
    engine: Arc<EngineSlot>,
    callers: Arc<Callers>,
    counts: Counts,
    max_duration: Duration,
}

impl VerificationService {
    /// The service for a tonic server. `counts` are told by the status; `max_message_bytes` bounds a request; a call without a nearer deadline ends after
    /// `max_duration`.
    pub fn server(
        engine: Arc<EngineSlot>,
        callers: Arc<Callers>,
        counts: Counts,
        max_message_bytes: usize,
        max_duration: Duration,
    ) -> VerificationServer<Self> {
        let service = Self { engine, callers, counts, max_duration };
        VerificationServer::new(service).max_decoding_message_size(max_message_bytes)
    }

    /// The call of a request, the request itself, which is noted in its audit record, and that record.
    fn call<T: Noted>(&self, request: Request<T>) -> (Call, T, Entry) {
        let call = Call::new(self.engine.current(), &request, self.max_duration);
        let request = request.into_inner();
        call.audit.note_message(&request);
        let audit = call.audit.clone();
        (call, request, audit)
    }
}

#[tonic::async_trait]
impl Verification for VerificationService {
    type VerifyStream = EventStream;
    type ScanMrzStream = ScanStream;
    type VerifyLiveStream = LiveStream;

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<EventStream>, Status> {
        let (call, request, audit) = self.call(request);
        audit.stream(verify(call, request)).await.map(Response::new)
    }

    async fn detect_faces(
        &self,
        request: Request<DetectFacesRequest>,
    ) -> Result<Response<DetectFacesResponse>, Status> {
        let (call, request, audit) = self.call(request);
        audit.answer(detect_faces::detect_faces(call, request)).await.map(Response::new)
    }

    async fn match_faces(&self, request: Request<MatchFacesRequest>) -> Result<Response<MatchFacesResponse>, Status> {
        let (call, request, audit) = self.call(request);
        audit.answer(match_faces::match_faces(call, request)).await.map(Response::new)
    }

    async fn check_passive_liveness(
        &self,
        request: Request<CheckPassiveLivenessRequest>,
    ) -> Result<Response<CheckPassiveLivenessResponse>, Status> {
        let (call, request, audit) = self.call(request);
        audit.answer(check_passive_liveness::check_passive_liveness(call, request)).await.map(Response::new)
    }

    async fn estimate_age(
        &self,
        request: Request<EstimateAgeRequest>,
    ) -> Result<Response<EstimateAgeResponse>, Status> {
        let (call, request, audit) = self.call(request);
        audit.answer(estimate_age::estimate_age(call, request)).await.map(Response::new)
    }

    async fn read_document(
        &self,
        request: Request<ReadDocumentRequest>,
    ) -> Result<Response<ReadDocumentResponse>, Status> {
        let (call, request, audit) = self.call(request);
        audit.answer(read_document::read_document(call, request)).await.map(Response::new)
    }

    async fn scan_mrz(&self, request: Request<Streaming<ScanMrzRequest>>) -> Result<Response<ScanStream>, Status> {
        let call = Call::new(self.engine.current(), &request, self.max_duration);
        let audit = call.audit.clone();
        audit.stream(scan_mrz(call, request.into_inner())).await.map(Response::new)
    }

    async fn verify_live(
        &self,
        request: Request<Streaming<VerifyLiveRequest>>,
    ) -> Result<Response<LiveStream>, Status> {
        let engine = self.engine.current();
        let longest = max_duration(&engine);
        let call = Call::new(engine, &request, longest);
        let audit = call.audit.clone();
        audit.stream(verify_live(call, request.into_inner())).await.map(Response::new)
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        // What came of all callers' requests is for the operator alone.
        let is_operator = peer.as_ref().is_some_and(PeerIdentity::is_operator);
        let counts = (request.into_inner().with_activity && is_operator).then_some(&self.counts);
        let engine = self.engine.current();
        Ok(Response::new(get_status::get_status(&engine, &self.callers, peer.as_ref(), counts)))
    }
}
